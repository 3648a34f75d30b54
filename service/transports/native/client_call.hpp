// One call of a gRPC client on an HTTP/2 connection of its own, without its socket: bytes in, messages out, and back.
//
// Knows HTTP/2 (by nghttp2) and gRPC's framing, and neither services nor clocks. Never blocks, and is used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framing.hpp"

namespace statestream {

// How a call ended.
struct End {
  Metadata headers;    // the last that the server sent; none if it sent none
  uint32_t error = 0;  // of HTTP/2, NGHTTP2_NO_ERROR in an orderly end
};

class ClientCall {
 public:
  // Begins the call; `most` bytes of a message are taken.
  ClientCall(const Metadata& headers, size_t most);
  ~ClientCall();
  ClientCall(const ClientCall&) = delete;
  ClientCall& operator=(const ClientCall&) = delete;

  // Takes what arrived.
  void feed(std::string_view bytes);

  // Messages that have arrived since the last call.
  std::vector<std::string> messages() { return std::exchange(messages_, {}); }

  // Appends what is to be sent.
  void take(std::string& out);

  // Queues a message.
  void send(std::string_view message);

  // Sends no more messages after those queued.
  void finish();

  // Ends the call at once.
  void cancel();

  // Asks for a sign of life.
  void ping();

  // Bytes of messages that wait for the server's window.
  size_t unsent() const { return leaving_.bytes(); }

  // The end of the call; none while it goes on.
  const std::optional<End>& end() const { return end_; }

 private:
  friend struct ClientCallbacks;

  void begin_headers();
  void take_header(std::string_view name, std::string_view value);
  void receive(std::string_view bytes);
  void input_ended();
  void fail(const Fault& fault);
  void close(uint32_t error);
  void resume();
  ssize_t read(uint8_t* into, size_t most, uint32_t* flags);

  const size_t most_;
  nghttp2_session* session_ = nullptr;
  int32_t id_ = 0;
  Metadata headers_;
  size_t header_bytes_ = 0;
  Arriving arriving_;
  Leaving leaving_;
  std::vector<std::string> messages_;
  std::optional<End> end_;
  bool finished_ = false, waits_for_data_ = false, broken_ = false;
};

}  // namespace statestream
