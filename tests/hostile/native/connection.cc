// Whatever arrives on a connection: it goes on or ends, nothing is read or written beyond its bounds, and what waits is
// bounded. Answers are given to whatever begins.
#include <cstdlib>

#include "connection.hpp"

using statestream::Connection;
using statestream::Event;

namespace {

constexpr size_t kMessage = 1 << 12;

// Answers what a client did, as a server would that takes plain rows on every second call.
void answer(Connection& connection, const std::shared_ptr<statestream::Inflow>& inflow) {
  for (const Event& event : connection.events()) {
    switch (event.kind) {
      case Event::CALL:
        if (event.call % 4 == 1) {
          connection.adopt(event.call, uint64_t(event.call), 64);
          connection.bind(event.call, 0, {inflow, 0});
          connection.release(event.call);
        }
        connection.answer(event.call, {{"x", "y"}});
        break;
      case Event::MESSAGE:
        if (event.data.size() > kMessage) abort();
        connection.send(event.call, event.data);
        connection.handled(event.call, event.data.size());
        connection.release(event.call);
        break;
      case Event::HALF_CLOSED:
        connection.await_sent(event.call);
        connection.finish(event.call, {{"grpc-status", "0"}});
        break;
      case Event::GONE:
        connection.send(event.call, "to no one");
        break;
      case Event::SENT:
        break;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  statestream::Limits limits;
  limits.message = kMessage;
  limits.calls = 4;
  Connection connection(limits);
  const auto inflow = std::make_shared<statestream::Inflow>(std::vector<statestream::Input>{{"x", 8}}, 1 << 12);
  const size_t part = 1 + data[0] * size_t(4);  // the bytes come in pieces of one size
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  for (size_t at = 0; at < bytes.size() && !connection.over(); at += part) {
    connection.feed(bytes.substr(at, part), double(at));
    answer(connection, inflow);
    std::string out;
    connection.take(out, 1 << 20);
    answer(connection, inflow);
    statestream::woken();
    if (inflow->rows() > (1 << 12) / 8) abort();
    if (at % 3 == 0) inflow->take();
    if (at % 7 == 0) connection.clear(1);
    if (connection.calls() > limits.calls + 100) abort();
  }
  if (data[0] % 2) connection.drain();
  connection.lost();
  answer(connection, inflow);
  if (connection.unsent() != 0) abort();
  return 0;
}
