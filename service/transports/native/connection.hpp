// One HTTP/2 connection of a gRPC server, without its socket: bytes in, events out; answers in, bytes out.
//
// Knows HTTP/2 (by nghttp2) and gRPC's framing, and neither services nor clocks. Never blocks, and is used by one thread.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "framing.hpp"
#include "rows.hpp"

namespace statestream {

struct Limits {
  uint32_t calls = 100;           // at once
  uint32_t message = 4 << 20;     // bytes of one
  uint32_t metadata = 16 << 10;   // bytes of a call's
  uint32_t window = 1 << 20;      // bytes that a call may send ahead
};

// What a client did, in order.
struct Event {
  enum Kind {
    CALL,         // a call began: its path and metadata
    MESSAGE,      // a message of it is complete
    HALF_CLOSED,  // the client sends no more messages
    GONE,         // the call is over without the server's doing; nothing follows
    SENT          // what was to be sent has left, as `await_sent` wanted to know
  } kind;
  int32_t call;
  std::string data;
  Metadata metadata;
};

// Allows a burst of frames that make work and carry none, and so many a second after that.
class FloodGuard {
 public:
  bool allows(double now_s);

 private:
  static constexpr double kBurst = 1000, kPerSecond = 100;
  double left_ = kBurst, then_s_ = 0;
};

class Connection {
 public:
  explicit Connection(const Limits& limits);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Takes what arrived at `now_s`. False: the connection cannot go on.
  bool feed(std::string_view bytes, double now_s);

  // What happened since the last call.
  std::vector<Event> events() { return std::exchange(events_, {}); }

  // Appends what is to be sent, up to about `most` bytes. False: the connection cannot go on.
  bool take(std::string& out, size_t most);

  // Whether nothing more is to be read or sent.
  bool over() const;

  // Begins an answer; done by the first message or the end otherwise.
  void answer(int32_t call, const Metadata& headers);

  // Queues a message.
  void send(int32_t call, std::string_view message);

  // Ends an answer, after its messages.
  void finish(int32_t call, Metadata trailers);

  // Ends a call at once.
  void reset(int32_t call, uint32_t error);

  // Whether all messages and the end of an answer have left; if not, SENT or GONE follows.
  bool await_sent(int32_t call);

  // The server is done with a message of so many bytes: the client may send as many more.
  void handled(int32_t call, size_t bytes);

  // Parses plain messages of a call's stream from now on; any other message is an event, as are those after it, until
  // `release`. Plain rows are added to the inflows of the channels that are bound.
  void adopt(int32_t call, uint64_t stream, size_t most_rows);
  void release(int32_t call);
  void bind(int32_t call, uint32_t channel, Binding binding);
  void unbind(int32_t call, uint32_t channel);

  // Drops the messages of an answer that have not begun to leave.
  void clear(int32_t call);

  // Bytes of an answer, or of all, that have not left.
  size_t unsent(int32_t call) const;
  size_t unsent() const { return unsent_; }

  // Asks for a sign of life; `acknowledged` counts them.
  void ping();
  uint64_t acknowledged() const { return acknowledged_; }

  // Announces that no new call will be taken; the connection is over when the present ones are.
  void drain();

  // Takes no more calls from now on, and tells the client which was the last: it may send any later one elsewhere.
  void stop_taking();

  // Ends every call, as the socket is gone.
  void lost();

  size_t calls() const { return calls_.size(); }
  bool has_events() const { return !events_.empty(); }
  bool wants_to_send() const { return !failed_ && nghttp2_session_want_write(session_); }

 private:
  struct Call;
  friend struct Callbacks;

  Call* find(int32_t id) const;
  void begin(Call& call);
  void receive(Call& call, std::string_view bytes);
  void complete(Call& call, std::string_view message);
  void end_of_input(Call& call);
  void reject(Call& call, const Fault& fault);
  void refuse(Call& call, const char* http_status);
  void resume(Call& call);
  void sent(Call& call);
  bool begins_now(const nghttp2_frame& frame);
  void received(const nghttp2_frame& frame);
  void left(const nghttp2_frame& frame);
  void closed(int32_t id);
  ssize_t read(Call& call, uint8_t* into, size_t most, uint32_t* flags);

  const Limits limits_;
  nghttp2_session* session_ = nullptr;
  std::unordered_map<int32_t, std::unique_ptr<Call>> calls_;
  std::vector<Event> events_;
  FloodGuard guard_;
  double now_s_ = 0;
  uint64_t acknowledged_ = 0;
  size_t unsent_ = 0;
  bool draining_ = false, last_ = false, failed_ = false;
};

// Models that got rows since the last call, and had none. Of this thread's connections.
std::vector<Inflow*> woken();
bool any_woken();

}  // namespace statestream
