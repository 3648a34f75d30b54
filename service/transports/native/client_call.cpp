#include "client_call.hpp"

#include <iterator>
#include <new>

namespace statestream {

namespace {

constexpr size_t kMostHeaderBytes = 64 << 10;
constexpr uint32_t kWindow = 1 << 20;  // bytes that the server may send ahead

}  // namespace

// What nghttp2 calls; a negative result would end the connection.
struct ClientCallbacks {
  static ClientCall& of(void* call) { return *static_cast<ClientCall*>(call); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame*, void* user) {
    of(user).begin_headers();
    return 0;
  }

  static int take_header(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_bytes, const uint8_t* value,
                         size_t value_bytes, uint8_t, void* user) {
    of(user).take_header({reinterpret_cast<const char*>(name), name_bytes},
                         {reinterpret_cast<const char*>(value), value_bytes});
    return 0;
  }

  static int data_received(nghttp2_session*, uint8_t, int32_t, const uint8_t* data, size_t bytes, void* user) {
    of(user).receive({reinterpret_cast<const char*>(data), bytes});
    return 0;
  }

  static int frame_received(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    const bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) of(user).input_ended();
    return 0;
  }

  static int stream_closed(nghttp2_session*, int32_t, uint32_t error, void* user) {
    of(user).close(error);
    return 0;
  }

  static ssize_t read(nghttp2_session*, int32_t, uint8_t* into, size_t most, uint32_t* flags, nghttp2_data_source*,
                      void* user) {
    return of(user).read(into, most, flags);
  }
};

ClientCall::ClientCall(const Metadata& given, size_t most) : most_(most) {
  nghttp2_session_callbacks* callbacks;
  if (nghttp2_session_callbacks_new(&callbacks)) throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, ClientCallbacks::begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, ClientCallbacks::take_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, ClientCallbacks::data_received);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, ClientCallbacks::frame_received);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, ClientCallbacks::stream_closed);
  const int made = nghttp2_session_client_new(&session_, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  if (made) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
                                             {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, kMostHeaderBytes}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  const std::vector<nghttp2_nv> sent = headers(given);
  const nghttp2_data_provider provider{{}, ClientCallbacks::read};
  id_ = nghttp2_submit_request(session_, nullptr, sent.data(), sent.size(), &provider, nullptr);
  if (id_ < 0) {
    nghttp2_session_del(session_);
    throw std::bad_alloc();
  }
}

ClientCall::~ClientCall() { nghttp2_session_del(session_); }

void ClientCall::feed(std::string_view bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  broken_ = broken_ || nghttp2_session_mem_recv(session_, data, bytes.size()) < 0;
  if (broken_) close(NGHTTP2_PROTOCOL_ERROR);
}

void ClientCall::take(std::string& out) {
  const uint8_t* data;
  ssize_t bytes = 0;
  while (!broken_ && (bytes = nghttp2_session_mem_send(session_, &data)) > 0)
    out.append(reinterpret_cast<const char*>(data), size_t(bytes));
  broken_ = broken_ || bytes < 0;
  if (broken_ || (!nghttp2_session_want_read(session_) && !nghttp2_session_want_write(session_)))
    close(NGHTTP2_PROTOCOL_ERROR);
}

// What arrives

// Trailers take the place of headers.
void ClientCall::begin_headers() { headers_.clear(); }

void ClientCall::take_header(std::string_view name, std::string_view value) {
  header_bytes_ += name.size() + value.size() + kHeaderOverhead;
  if (header_bytes_ <= kMostHeaderBytes)
    headers_.emplace_back(name, value);
  else
    fail({kResourceExhausted, "the metadata of the answer is too large"});
}

void ClientCall::receive(std::string_view bytes) {
  if (end_) return;
  const Fault fault = arriving_.take(bytes, most_, [&](std::string_view message) {
    messages_.emplace_back(message);
    return true;
  });
  if (fault.status) fail(fault);
}

void ClientCall::input_ended() {
  if (arriving_.begun()) fail({kInternal, "the last message is cut off"});
  // The server has said all; what the client has still to say goes nowhere.
  close(NGHTTP2_NO_ERROR);
}

// Ends a call that the server does wrong.
void ClientCall::fail(const Fault& fault) {
  if (end_) return;
  end_ = End{fault.trailers(), NGHTTP2_NO_ERROR};
  cancel();
}

void ClientCall::close(uint32_t error) {
  if (!end_) end_ = End{std::move(headers_), error};
  leaving_.drop();
}

// What leaves

void ClientCall::send(std::string_view message) {
  if (finished_ || end_) return;
  leaving_.add(message);
  resume();
}

void ClientCall::finish() {
  finished_ = true;
  resume();
}

void ClientCall::cancel() {
  finished_ = true;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id_, NGHTTP2_CANCEL);
}

void ClientCall::ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

void ClientCall::resume() {
  if (std::exchange(waits_for_data_, false)) nghttp2_session_resume_data(session_, id_);
}

ssize_t ClientCall::read(uint8_t* into, size_t most, uint32_t* flags) {
  const size_t bytes = leaving_.read(into, most);
  if (!leaving_.empty()) return ssize_t(bytes);
  if (finished_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  } else if (bytes == 0) {
    waits_for_data_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  return ssize_t(bytes);
}

}  // namespace statestream
