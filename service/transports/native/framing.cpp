#include "framing.hpp"

#include <algorithm>
#include <cstring>

namespace statestream {

nghttp2_nv header(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::vector<nghttp2_nv> headers(const Metadata& metadata) {
  std::vector<nghttp2_nv> found;
  found.reserve(metadata.size() + 2);
  for (const auto& [name, value] : metadata) found.push_back(header(name, value));
  return found;
}

bool Arriving::take_prefix(std::string_view& bytes) {
  const size_t part = std::min(kPrefix - prefix_bytes_, bytes.size());
  std::memcpy(prefix_ + prefix_bytes_, bytes.data(), part);
  bytes.remove_prefix(part);
  return (prefix_bytes_ += part) == kPrefix;
}

Fault Arriving::check(size_t most) {
  const uint8_t* p = prefix_;
  length_ = size_t(p[1]) << 24 | size_t(p[2]) << 16 | size_t(p[3]) << 8 | p[4];
  if (p[0]) return {kInternal, "a message has the compressed flag, and the call no encoding"};
  if (length_ <= most) return {};
  return {kResourceExhausted,
          "Received message larger than max (" + std::to_string(length_) + " vs. " + std::to_string(most) + ")"};
}

size_t Leaving::add(std::string_view message) {
  const auto size = uint32_t(message.size());
  std::string framed;
  framed.reserve(kPrefix + size);
  for (const uint32_t byte : {0u, size >> 24, size >> 16, size >> 8, size}) framed.push_back(char(byte));
  framed.append(message);
  const size_t bytes = framed.size();
  messages_.push_back(std::move(framed));
  bytes_ += bytes;
  return bytes;
}

size_t Leaving::read(uint8_t* into, size_t most) {
  size_t bytes = 0;
  while (bytes < most && !messages_.empty()) {
    const std::string& first = messages_.front();
    const size_t part = std::min(most - bytes, first.size() - begin_);
    std::memcpy(into + bytes, first.data() + begin_, part);
    bytes += part;
    if ((begin_ += part) == first.size()) {
      messages_.pop_front();
      begin_ = 0;
    }
  }
  bytes_ -= bytes;
  return bytes;
}

size_t Leaving::drop() {
  const size_t before = bytes_;
  while (messages_.size() > (begin_ > 0 ? 1 : 0)) {
    bytes_ -= messages_.back().size();
    messages_.pop_back();
  }
  return before - bytes_;
}

}  // namespace statestream
