#include "connection.hpp"

#include <algorithm>
#include <stdexcept>

namespace statestream {

namespace {

constexpr size_t kMostWaiting = 1 << 16;  // messages of a call that the server still has; windows bound bytes alone
constexpr int kUnimplemented = 12;

bool is_grpc(std::string_view content_type) {
  constexpr std::string_view kGrpc = "application/grpc";
  if (content_type.substr(0, kGrpc.size()) != kGrpc) return false;
  return content_type.size() == kGrpc.size() || content_type[kGrpc.size()] == '+' || content_type[kGrpc.size()] == ';';
}

}  // namespace

namespace {

// One for all connections of a thread: it keeps nothing but its memory between messages.
Message& parser() {
  thread_local Message message;
  return message;
}

}  // namespace

std::vector<Inflow*> woken() { return parser().woken(); }

bool any_woken() { return parser().any_woken(); }

bool FloodGuard::allows(double now_s) {
  left_ = std::min(kBurst, left_ + (now_s - then_s_) * kPerSecond) - 1;
  then_s_ = now_s;
  return left_ >= 0;
}

struct Connection::Call {
  explicit Call(int32_t number) : id(number) {}

  const int32_t id;
  std::string method, path, content_type, encoding;
  Metadata metadata;
  size_t metadata_bytes = 0;

  Arriving arriving;
  size_t unhandled = 0;  // bytes of messages that the server still has
  size_t waiting = 0;    // their number
  size_t withheld = 0;   // bytes for which the client's window waits for that
  bool announced = false, input_ended = false, ignored = false;

  // What plain messages need; others do without.
  struct Adopted {
    uint64_t stream;
    size_t most_rows;
    Bindings bindings;
    bool held = true;
  };
  std::unique_ptr<Adopted> adopted;

  Leaving leaving;
  bool answered = false, finished = false, waits_for_data = false, wants_sent = false;
  Metadata trailers;
};

// What nghttp2 calls; a negative result would end the connection.
struct Callbacks {
  static Connection& of(void* connection) { return *static_cast<Connection*>(connection); }

  static Connection::Call* call(nghttp2_session* session, int32_t id) {
    return static_cast<Connection::Call*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if (!of(user).begins_now(*frame)) return 0;
    const int32_t id = frame->hd.stream_id;
    auto made = std::make_unique<Connection::Call>(id);
    nghttp2_session_set_stream_user_data(session, id, made.get());
    of(user).calls_[id] = std::move(made);
    return 0;
  }

  static int take_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes,
                         const uint8_t* value, size_t value_bytes, uint8_t, void* user) {
    Connection::Call* to = call(session, frame->hd.stream_id);
    if (!to || !of(user).begins_now(*frame)) return 0;
    to->metadata_bytes += name_bytes + value_bytes + kHeaderOverhead;
    if (to->metadata_bytes > of(user).limits_.metadata) return 0;
    std::string key(reinterpret_cast<const char*>(name), name_bytes);
    std::string text(reinterpret_cast<const char*>(value), value_bytes);
    if (key == ":method")
      to->method = std::move(text);
    else if (key == ":path")
      to->path = std::move(text);
    else if (key == "content-type")
      to->content_type = std::move(text);
    else if (key == "grpc-encoding")
      to->encoding = std::move(text);
    else if (key[0] != ':' && key != "te")
      to->metadata.emplace_back(std::move(key), std::move(text));
    return 0;
  }

  static int frame_received(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    of(user).received(*frame);
    return 0;
  }

  static int data_received(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t bytes, void* user) {
    nghttp2_session_consume_connection(session, bytes);
    if (Connection::Call* to = call(session, id))
      of(user).receive(*to, {reinterpret_cast<const char*>(data), bytes});
    else
      nghttp2_session_consume_stream(session, id, bytes);
    return 0;
  }

  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    of(user).left(*frame);
    return 0;
  }

  static int stream_closed(nghttp2_session*, int32_t id, uint32_t, void* user) {
    of(user).closed(id);
    return 0;
  }

  static ssize_t read(nghttp2_session*, int32_t, uint8_t* into, size_t most, uint32_t* flags, nghttp2_data_source* source,
                      void* user) {
    return of(user).read(*static_cast<Connection::Call*>(source->ptr), into, most, flags);
  }
};

Connection::Connection(const Limits& limits) : limits_(limits) {
  nghttp2_session_callbacks* callbacks;
  nghttp2_option* option;
  if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option)) throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::take_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::frame_received);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::data_received);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::frame_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::stream_closed);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_outbound_ack(option, 1000);
  const int made = nghttp2_session_server_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  if (made) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.calls},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.window},
                                             {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.metadata}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

Connection::~Connection() {
  calls_.clear();
  nghttp2_session_del(session_);
}

bool Connection::feed(std::string_view bytes, double now_s) {
  now_s_ = now_s;
  if (failed_) return false;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  failed_ = nghttp2_session_mem_recv(session_, data, bytes.size()) < 0;
  return !failed_;
}

bool Connection::take(std::string& out, size_t most) {
  while (!failed_ && out.size() < most) {
    const uint8_t* data;
    const ssize_t bytes = nghttp2_session_mem_send(session_, &data);
    if (bytes == 0) break;
    if (bytes < 0)
      failed_ = true;
    else
      out.append(reinterpret_cast<const char*>(data), size_t(bytes));
  }
  return !failed_;
}

bool Connection::over() const {
  if (failed_ || (last_ && calls_.empty() && !nghttp2_session_want_write(session_))) return true;
  return !nghttp2_session_want_read(session_) && !nghttp2_session_want_write(session_);
}

Connection::Call* Connection::find(int32_t id) const {
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second.get();
}

// What arrives

bool Connection::begins_now(const nghttp2_frame& frame) {
  return frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST;
}

void Connection::received(const nghttp2_frame& frame) {
  const uint8_t flags = frame.hd.flags;
  bool idle = false;  // whether it makes work and carries none
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      if (Call* call = find(frame.hd.stream_id)) {
        if (begins_now(frame)) begin(*call);
        if (flags & NGHTTP2_FLAG_END_STREAM) end_of_input(*call);
      }
      break;
    case NGHTTP2_DATA:
      idle = frame.hd.length == 0 && !(flags & NGHTTP2_FLAG_END_STREAM);
      if (Call* call = find(frame.hd.stream_id); call && flags & NGHTTP2_FLAG_END_STREAM) end_of_input(*call);
      break;
    case NGHTTP2_PING:
      idle = !(flags & NGHTTP2_FLAG_ACK);
      if (idle) break;
      acknowledged_++;
      if (draining_) stop_taking();
      break;
    case NGHTTP2_SETTINGS:
      idle = !(flags & NGHTTP2_FLAG_ACK);
      break;
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_PRIORITY:
      idle = true;
      break;
    default:
      break;
  }
  if (idle && !guard_.allows(now_s_)) nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
}

void Connection::begin(Call& call) {
  if (call.metadata_bytes > limits_.metadata)
    return reject(call, {kResourceExhausted, "the metadata of the call is too large"});
  if (call.method != "POST") return refuse(call, "405");
  if (!is_grpc(call.content_type)) return refuse(call, "415");
  if (!call.encoding.empty() && call.encoding != "identity")
    return reject(call, {kUnimplemented, "Compression algorithm '" + call.encoding + "' is disabled."});
  call.announced = true;
  events_.push_back({Event::CALL, call.id, std::move(call.path), std::move(call.metadata)});
}

void Connection::receive(Call& call, std::string_view bytes) {
  if (call.ignored || call.unhandled == 0)
    nghttp2_session_consume_stream(session_, call.id, bytes.size());
  else
    call.withheld += bytes.size();
  if (call.ignored) return;
  const Fault fault = call.arriving.take(bytes, limits_.message, [&](std::string_view message) {
    complete(call, message);
    return !call.ignored;
  });
  if (fault.status) reject(call, fault);
}

void Connection::complete(Call& call, std::string_view message) {
  if (Call::Adopted* own = call.adopted.get()) {
    if (!own->held && parser().take(message, own->bindings, own->stream, own->most_rows, now_s_)) return;
    own->held = true;
  }
  if (call.waiting == kMostWaiting) return reject(call, {kResourceExhausted, "too many messages wait"});
  call.waiting++;
  call.unhandled += kPrefix + message.size();
  events_.push_back({Event::MESSAGE, call.id, std::string(message), {}});
}

void Connection::end_of_input(Call& call) {
  call.input_ended = true;
  if (call.ignored) return;
  if (call.arriving.begun()) return reject(call, {kInternal, "the last message is cut off"});
  events_.push_back({Event::HALF_CLOSED, call.id, {}, {}});
}

// Ends a call that a client does wrong, and the server's work for it.
void Connection::reject(Call& call, const Fault& fault) {
  finish(call.id, fault.trailers());
  if (std::exchange(call.announced, false)) events_.push_back({Event::GONE, call.id, {}, {}});
}

void Connection::refuse(Call& call, const char* http_status) {
  call.ignored = call.answered = call.finished = true;
  const nghttp2_nv answer = header(":status", http_status);
  nghttp2_submit_response(session_, call.id, &answer, 1, nullptr);
}

void Connection::closed(int32_t id) {
  Call* call = find(id);
  if (!call) return;
  if (call->announced) events_.push_back({Event::GONE, id, {}, {}});
  unsent_ -= call->leaving.bytes();
  calls_.erase(id);
}

void Connection::lost() {
  failed_ = true;
  for (const auto& [id, call] : calls_)
    if (call->announced) events_.push_back({Event::GONE, id, {}, {}});
  calls_.clear();
  unsent_ = 0;
}

// What leaves

void Connection::answer(int32_t id, const Metadata& more) {
  Call* call = find(id);
  if (!call || call->answered) return;
  call->answered = true;
  std::vector<nghttp2_nv> sent = headers(more);
  const nghttp2_nv first[] = {header(":status", "200"), header("content-type", "application/grpc"),
                              header("grpc-accept-encoding", "identity")};
  sent.insert(sent.begin(), std::begin(first), std::end(first));
  nghttp2_data_provider provider{{}, Callbacks::read};
  provider.source.ptr = call;
  nghttp2_submit_response(session_, id, sent.data(), sent.size(), &provider);
}

void Connection::send(int32_t id, std::string_view message) {
  Call* call = find(id);
  if (!call || call->finished) return;
  answer(id, {});
  unsent_ += call->leaving.add(message);
  resume(*call);
}

void Connection::finish(int32_t id, Metadata trailers) {
  Call* call = find(id);
  if (!call || call->finished) return;
  call->finished = call->ignored = true;
  call->arriving.drop();
  call->trailers = std::move(trailers);
  if (call->withheld) nghttp2_session_consume_stream(session_, id, std::exchange(call->withheld, 0));
  if (call->answered) return resume(*call);
  call->answered = true;
  std::vector<nghttp2_nv> only = headers(call->trailers);
  const nghttp2_nv first[] = {header(":status", "200"), header("content-type", "application/grpc")};
  only.insert(only.begin(), std::begin(first), std::end(first));
  nghttp2_submit_response(session_, id, only.data(), only.size(), nullptr);
}

void Connection::reset(int32_t id, uint32_t error) {
  if (Call* call = find(id)) {
    call->announced = false;
    call->finished = call->ignored = true;
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, error);
  }
}

void Connection::resume(Call& call) {
  if (std::exchange(call.waits_for_data, false)) nghttp2_session_resume_data(session_, call.id);
}

ssize_t Connection::read(Call& call, uint8_t* into, size_t most, uint32_t* flags) {
  const size_t bytes = call.leaving.read(into, most);
  unsent_ -= bytes;
  if (!call.leaving.empty()) return ssize_t(bytes);
  if (!call.finished) {
    sent(call);
    if (bytes > 0) return ssize_t(bytes);
    call.waits_for_data = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  const std::vector<nghttp2_nv> last = headers(call.trailers);
  nghttp2_submit_trailer(session_, call.id, last.data(), last.size());
  return ssize_t(bytes);
}

void Connection::left(const nghttp2_frame& frame) {
  const bool ends = frame.hd.flags & NGHTTP2_FLAG_END_STREAM;
  if (!ends || (frame.hd.type != NGHTTP2_HEADERS && frame.hd.type != NGHTTP2_DATA)) return;
  Call* call = find(frame.hd.stream_id);
  if (!call) return;
  sent(*call);
  call->announced = false;
  // The client may still be sending; it has its answer.
  if (!call->input_ended) nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_NO_ERROR);
}

void Connection::sent(Call& call) {
  if (std::exchange(call.wants_sent, false)) events_.push_back({Event::SENT, call.id, {}, {}});
}

bool Connection::await_sent(int32_t id) {
  Call* call = find(id);
  if (!call || (call->leaving.empty() && !call->finished)) return true;
  call->wants_sent = true;
  return false;
}

size_t Connection::unsent(int32_t id) const {
  const Call* call = find(id);
  return call ? call->leaving.bytes() : 0;
}

void Connection::clear(int32_t id) {
  if (Call* call = find(id)) unsent_ -= call->leaving.drop();
}

// Plain messages

void Connection::adopt(int32_t id, uint64_t stream, size_t most_rows) {
  if (Call* call = find(id)) call->adopted.reset(new Call::Adopted{stream, most_rows, {}, true});
}

void Connection::release(int32_t id) {
  if (Call* call = find(id); call && call->adopted) call->adopted->held = false;
}

void Connection::bind(int32_t id, uint32_t channel, Binding binding) {
  if (Call* call = find(id); call && call->adopted) call->adopted->bindings.insert_or_assign(channel, std::move(binding));
}

void Connection::unbind(int32_t id, uint32_t channel) {
  if (Call* call = find(id); call && call->adopted) call->adopted->bindings.erase(channel);
}

void Connection::handled(int32_t id, size_t bytes) {
  Call* call = find(id);
  if (!call) return;
  call->unhandled -= std::min(kPrefix + bytes, call->unhandled);
  if (call->waiting > 0) call->waiting--;
  if (call->unhandled == 0 && call->withheld)
    nghttp2_session_consume_stream(session_, id, std::exchange(call->withheld, 0));
}

void Connection::ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

// A client may begin calls until it reads the notice; its answer to the ping says that it has.
void Connection::drain() {
  if (std::exchange(draining_, true)) return;
  nghttp2_submit_shutdown_notice(session_);
  ping();
}

void Connection::stop_taking() {
  if (std::exchange(last_, true)) return;
  const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
}

}  // namespace statestream
