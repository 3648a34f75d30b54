// What both ends of a gRPC connection share: headers for nghttp2, and messages in the pieces in which they come and go.
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace statestream {

constexpr size_t kPrefix = 5;           // of a message: compressed or not, and its length
constexpr size_t kHeaderOverhead = 32;  // bytes that HTTP/2 counts for each header beside its text
constexpr uint32_t kConnectionWindow = 16 << 20;
constexpr int kInternal = 13, kResourceExhausted = 8;  // of gRPC's status codes

using Metadata = std::vector<std::pair<std::string, std::string>>;

nghttp2_nv header(std::string_view name, std::string_view value);
std::vector<nghttp2_nv> headers(const Metadata& metadata);

// Why a call cannot go on: gRPC's status and a text. Status 0: it can.
struct Fault {
  int status = 0;
  std::string text;

  Metadata trailers() const { return {{"grpc-status", std::to_string(status)}, {"grpc-message", text}}; }
};

// Messages of a call as they arrive.
class Arriving {
 public:
  // Calls `complete` with each message that the bytes complete, until it returns false.
  template <class Complete>
  Fault take(std::string_view bytes, size_t most, Complete complete) {
    while (!bytes.empty()) {
      if (prefix_bytes_ < kPrefix) {
        if (!take_prefix(bytes)) return {};
        if (Fault wrong = check(most); wrong.status) return wrong;
      }
      if (part_.empty() && bytes.size() >= length_) {
        const std::string_view whole = bytes.substr(0, length_);
        bytes.remove_prefix(length_);
        prefix_bytes_ = 0;
        if (!complete(whole)) return {};
        continue;
      }
      const size_t more = std::min(length_ - part_.size(), bytes.size());
      part_.append(bytes.data(), more);
      bytes.remove_prefix(more);
      if (part_.size() < length_) return {};
      prefix_bytes_ = 0;
      const std::string whole = std::exchange(part_, {});
      if (!complete(whole)) return {};
    }
    return {};
  }

  // Whether a message has begun to arrive.
  bool begun() const { return prefix_bytes_ > 0; }

  // Frees what has arrived of a message.
  void drop() { part_ = {}; }

 private:
  bool take_prefix(std::string_view& bytes);
  Fault check(size_t most);

  uint8_t prefix_[kPrefix];
  size_t prefix_bytes_ = 0;
  size_t length_ = 0;
  std::string part_;
};

// Messages of a call that wait to leave.
class Leaving {
 public:
  // Queues a message; returns its bytes with the prefix.
  size_t add(std::string_view message);

  // Moves up to `most` bytes; returns how many.
  size_t read(uint8_t* into, size_t most);

  // Drops messages that have not begun to leave; returns their bytes.
  size_t drop();

  bool empty() const { return messages_.empty(); }
  size_t bytes() const { return bytes_; }

 private:
  std::deque<std::string> messages_;
  size_t begin_ = 0;  // of the first
  size_t bytes_ = 0;  // of all
};

}  // namespace statestream
