// Protobuf's wire format, as far as messages that need no words use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace statestream {

// Reads protobuf's wire format; after a failure everything fails.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  // A varint in its shortest form.
  bool number(uint64_t& value) {
    value = 0;
    for (size_t k = 0; k < kMaxVarint && k < rest_.size(); k++) {
      const auto byte = uint8_t(rest_[k]);
      value |= uint64_t(byte & 0x7F) << (7 * k);
      if (byte & 0x80) continue;
      rest_.remove_prefix(k + 1);
      return byte != 0 || k == 0;
    }
    return false;
  }

  // The number of a field of bytes, and these.
  bool field(uint64_t& field, std::string_view& bytes) {
    uint64_t tag;
    if (!number(tag) || (tag & 7) != 2 || !this->bytes(bytes)) return false;
    field = tag >> 3;
    return true;
  }

  // Bytes after their number.
  bool bytes(std::string_view& bytes) {
    uint64_t size;
    if (!number(size) || size > rest_.size()) return false;
    bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

 private:
  static constexpr size_t kMaxVarint = 9;  // bytes; longer ones are of numbers that no plain row has

  std::string_view rest_;
};

// Reads packed numbers, each at most `most`, and calls `take` with each.
template <class Take>
bool each_number(std::string_view bytes, uint64_t most, Take take) {
  Reader reader(bytes);
  while (!reader.done()) {
    uint64_t value;
    if (!reader.number(value) || value > most) return false;
    take(value);
  }
  return true;
}

inline bool numbers(std::string_view bytes, uint64_t most, std::vector<uint64_t>& into) {
  return each_number(bytes, most, [&](uint64_t value) { into.push_back(value); });
}

}  // namespace statestream
