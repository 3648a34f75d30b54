// Whatever a server sends on a client's call: it goes on or ends, nothing is read or written beyond its bounds, and what
// waits is bounded. The client sends what it gets, and ends on its own at times.
#include <cstdlib>

#include "client_call.hpp"

using statestream::ClientCall;

namespace {

constexpr size_t kMessage = 1 << 12, kMostHeaders = 128 << 10;

const statestream::Metadata kHeaders = {{":method", "POST"}, {":scheme", "http"}, {":path", "/x/Y"}, {":authority", "a"}};

// What the server's bytes must not make large.
void check(const ClientCall& call) {
  if (!call.end()) return;
  size_t bytes = 0;
  for (const auto& [name, value] : call.end()->headers) bytes += name.size() + value.size();
  if (bytes > kMostHeaders) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  ClientCall call(kHeaders, kMessage);
  const size_t part = 1 + data[0] * size_t(4);  // the bytes come in pieces of one size
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  for (size_t at = 0; at < bytes.size() && !call.end(); at += part) {
    call.feed(bytes.substr(at, part));
    for (const std::string& message : call.messages()) {
      if (message.size() > kMessage) abort();
      call.send(message);
    }
    if (at % 5 == 1) call.ping();
    if (at % 11 == 1) call.finish();
    if (at % 97 == 1) call.cancel();
    std::string out;
    call.take(out);
    check(call);
  }
  return 0;
}
