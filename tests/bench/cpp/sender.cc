// Streams that each send their next message when the last one is answered, or by the clock: a load that costs a fraction
// of the server's CPU time. One thread; gRPC's completion queue.
//
// sender TARGET MODEL INPUT FLOATS [name=value …], the settings of Load below. Writes a line "begin" when it starts to
// measure, and a line of JSON when it has measured. A row that is not applied is an error, unless its session's policy
// may drop it.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "v1/inference.pb.h"

namespace pb = statestream::v1;
using Clock = std::chrono::steady_clock;

constexpr int64_t kPeriodNs = 10'000'000;
constexpr int kAckEvery = 32;  // rows of a session between acknowledgements
constexpr int kVariants = 32;

struct Load {
  std::string target, model, input;
  int floats = 0;   // of a row
  std::string tls;  // folder with ca.pem, sender.pem and sender.key; empty: no TLS
  int streams = 1;
  int connections = 0;  // 0: one for each stream
  int channels = 1;     // sessions of each stream, a row of each in every message
  int keep_last = 0;
  int budget_us = 0;
  int paced = 0;    // streams that send by the clock; if there are any, they alone are timed
  int rate_hz = 0;  // of each of these; a message is timed from when it is due
  int echo = 0;  // whether requests come back instead of responses
  int warm_ms = 400;
  int measure_ms = 2000;
};

[[noreturn]] void fail(const std::string& why) {
  std::cerr << "error: " << why << std::endl;
  exit(1);
}

Load parse(int argc, char** argv) {
  if (argc < 5) fail("usage: sender TARGET MODEL INPUT FLOATS [name=value …]");
  Load load;
  load.target = argv[1], load.model = argv[2], load.input = argv[3], load.floats = atoi(argv[4]);
  const std::map<std::string, int*> settings = {
      {"streams", &load.streams},     {"connections", &load.connections}, {"channels", &load.channels},
      {"keep_last", &load.keep_last}, {"budget_us", &load.budget_us},     {"paced", &load.paced},
      {"rate_hz", &load.rate_hz},     {"echo", &load.echo},
      {"warm_ms", &load.warm_ms},     {"measure_ms", &load.measure_ms}};
  for (int k = 5; k < argc; k++) {
    const std::string word = argv[k];
    const auto equals = word.find('=');
    if (word.substr(0, equals) == "tls") {
      load.tls = word.substr(equals + 1);
      continue;
    }
    const auto found = settings.find(word.substr(0, equals));
    if (equals == std::string::npos || found == settings.end()) fail("no setting '" + word + "'");
    *found->second = atoi(word.c_str() + equals + 1);
  }
  if (load.paced > load.streams || (load.paced > 0) != (load.rate_hz > 0)) fail("paced streams have a rate, and no others");
  return load;
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::shared_ptr<grpc::ChannelCredentials> credentials(const Load& load) {
  if (load.tls.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = contents(load.tls + "/ca.pem");
  options.pem_private_key = contents(load.tls + "/sender.key");
  options.pem_cert_chain = contents(load.tls + "/sender.pem");
  return grpc::SslCredentials(options);
}

double cpu_s() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Random rows, [kVariants][channels * floats], as the bytes of a column.
std::vector<std::string> columns(const Load& load) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::vector<std::string> found;
  for (int variant = 0; variant < kVariants; variant++) {
    std::vector<float> values(size_t(load.channels) * load.floats);
    for (float& value : values) value = normal(random);
    found.emplace_back(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  return found;
}

// What was measured, of all streams.
struct Figures {
  std::vector<float> took_us;
  int64_t messages = 0, rows = 0, dropped = 0;
};

// One call: at most one read and one write of it are in progress.
class Stream {
 public:
  // What an event of the completion queue is about: a pointer to one of these members is its tag.
  struct Tag {
    Stream* stream;
    enum { STARTED, WRITTEN, READ, ENDED } what;
  };

  Stream(const Load& load, const std::vector<std::string>& columns, grpc::GenericStub& stub, grpc::CompletionQueue& queue,
         std::string name, bool paced)
      : paced(paced), load_(load), columns_(columns), name_(std::move(name)) {
    call_ = stub.PrepareCall(&context_, "/statestream.v1.Inference/Stream", &queue);
    call_->StartCall(&started_);
  }

  // Handles an event; true if the stream is free to send.
  bool handle(const Tag& tag, bool ok, Figures& figures) {
    switch (tag.what) {
      case Tag::STARTED:
        if (!ok) fail("cannot connect to " + load_.target);
        open();
        call_->Read(&answer_, &read_);
        return false;
      case Tag::WRITTEN:
        writing_ = false;
        break;
      case Tag::READ:
        if (!ok) {
          done = closing_;
          if (!closing_) call_->Finish(&status_, &ended_);
          return false;
        }
        take(figures);
        call_->Read(&answer_, &read_);
        break;
      case Tag::ENDED:
        fail("the stream ended: " + status_.error_message());
    }
    if (!ok && !closing_) fail("a message could not be sent");
    return becomes_free();
  }

  // Sends a message that is timed from `begin`.
  void send(Clock::time_point begin) {
    request_.Clear();
    number_++;
    if (number_ % kAckEvery == 0) {
      for (int channel = 0; channel < load_.channels; channel++) {
        request_.mutable_acks()->add_channel(channel);
        request_.mutable_acks()->add_seq(number_ - 1);
      }
    }
    pb::Steps& steps = *request_.mutable_steps();
    for (int channel = 0; channel < load_.channels; channel++) {
      steps.add_channel(channel);
      steps.add_seq(number_);
      steps.add_timestamp_ns(number_ * kPeriodNs);
      if (load_.budget_us) steps.add_budget_us(load_.budget_us);
    }
    pb::Column& column = *steps.add_columns();
    column.set_name(load_.input);
    column.set_data(columns_[number_ % kVariants]);
    waiting_ = load_.channels;
    began_ = begin;
    write();
  }

  // Ends the sessions and the stream.
  void close() {
    closing_ = true;
    request_.Clear();
    for (int channel = 0; channel < load_.channels; channel++) {
      pb::Close& close = *request_.add_close();
      close.set_channel(channel);
      close.set_end_session(true);
    }
    const grpc::WriteOptions last = grpc::WriteOptions().set_last_message();
    call_->Write(serialised(), last, &written_);
  }

  bool done = false;
  const bool paced;
  Clock::time_point due;  // of the next message, if paced

 private:
  void open() {
    for (int channel = 0; channel < load_.channels; channel++) {
      pb::Open& open = *request_.add_open();
      open.set_channel(channel);
      open.set_session_id(name_ + "-" + std::to_string(channel));
      open.set_model(load_.model);
      if (load_.keep_last) {
        open.mutable_policy()->set_keep(pb::KEEP_LAST);
        open.mutable_policy()->set_keep_last(load_.keep_last);
      } else if (load_.budget_us) {
        open.mutable_policy()->set_keep(pb::KEEP_DEADLINE);
      }
    }
    waiting_ = load_.channels;
    write();
  }

  void write() {
    busy_ = writing_ = true;
    call_->Write(serialised(), &written_);
  }

  // True once for each message: when it is sent and answered.
  bool becomes_free() {
    if (!busy_ || writing_ || waiting_ > 0 || closing_) return false;
    busy_ = false;
    return true;
  }

  const grpc::ByteBuffer& serialised() {
    grpc::Slice slice(request_.ByteSizeLong());
    request_.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
    sent_ = grpc::ByteBuffer(&slice, 1);
    return sent_;
  }

  // Takes what was read into account.
  void take(Figures& figures) {
    grpc::Slice slice;
    if (!answer_.TrySingleSlice(&slice).ok() && !answer_.DumpToSingleSlice(&slice).ok()) fail("a message without bytes");
    const int rows = load_.echo ? echoed(slice) : answered(slice, figures);
    if (waiting_ == 0) return;
    waiting_ -= rows;
    if (waiting_ > 0 || number_ == 0) return;
    if (paced || !load_.paced)
      figures.took_us.push_back(std::chrono::duration<float, std::micro>(Clock::now() - began_).count());
    figures.messages++;
    figures.rows += load_.channels;
  }

  int echoed(const grpc::Slice& slice) {
    if (!request_.ParseFromArray(slice.begin(), int(slice.size()))) fail("no request came back");
    return request_.open_size() + request_.steps().seq_size();
  }

  int answered(const grpc::Slice& slice, Figures& figures) {
    if (!response_.ParseFromArray(slice.begin(), int(slice.size()))) fail("no response came back");
    if (response_.failed_size()) fail(response_.failed(0).text());
    for (const int verdict : response_.results().verdict()) {
      if (verdict == pb::VERDICT_APPLIED) continue;
      if (!load_.keep_last && !load_.budget_us) fail("a row was not applied: " + response_.results().ShortDebugString());
      figures.dropped++;
    }
    return response_.opened_size() + response_.results().seq_size();
  }

  const Load& load_;
  const std::vector<std::string>& columns_;
  const std::string name_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  Tag started_{this, Tag::STARTED}, written_{this, Tag::WRITTEN}, read_{this, Tag::READ}, ended_{this, Tag::ENDED};
  grpc::ByteBuffer sent_, answer_;
  grpc::Status status_;
  pb::StreamRequest request_;
  pb::StreamResponse response_;
  int64_t number_ = 0;  // of the last message, and the seq of its rows
  int waiting_ = 0;     // rows or sessions without an answer
  bool busy_ = false, writing_ = false, closing_ = false;
  Clock::time_point began_;
};

// Drives all streams through their phases.
class Sender {
 public:
  explicit Sender(const Load& load) : load_(load), columns_(columns(load)) {
    const std::string name = std::to_string(std::random_device()());
    const int connections = load.connections ? load.connections : load.streams;
    for (int k = 0; k < connections; k++) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      stubs_.push_back(std::make_unique<grpc::GenericStub>(
          grpc::CreateCustomChannel(load.target, credentials(load), arguments)));
    }
    for (int k = 0; k < load.streams; k++)
      streams_.push_back(std::make_unique<Stream>(load, columns_, *stubs_[k % connections], queue_,
                                                  name + "-" + std::to_string(k), k < load.paced));
  }

  void run() {
    await_all();  // until all sessions are open
    spread();
    send_for(load_.warm_ms);
    figures_ = {};
    std::cout << "begin" << std::endl;
    const double begin_cpu_s = cpu_s();
    const auto begin = Clock::now();
    send_for(load_.measure_ms);
    print(std::chrono::duration<double>(Clock::now() - begin).count(), cpu_s() - begin_cpu_s);
    await_all();
    for (auto& stream : streams_) stream->close();
    while (!std::all_of(streams_.begin(), streams_.end(), [](auto& stream) { return stream->done; })) step(true);
  }

 private:
  struct Later {
    bool operator()(const Stream* one, const Stream* other) const { return one->due > other->due; }
  };

  void await_all() {
    while (free_.size() + due_.size() < streams_.size()) step(true);
  }

  // The first messages of paced streams are due one after the other, within one period.
  void spread() {
    const auto now = Clock::now();
    for (int k = 0; k < load_.paced; k++) streams_[size_t(k)]->due = now + period() * k / load_.paced;
  }

  Clock::duration period() const { return std::chrono::nanoseconds(1'000'000'000 / load_.rate_hz); }

  void send_for(int ms) {
    const auto until = Clock::now() + std::chrono::milliseconds(ms);
    for (auto now = Clock::now(); now < until; now = Clock::now()) {
      for (Stream* stream : std::exchange(free_, {})) {
        if (stream->paced)
          due_.push(stream);
        else
          stream->send(now);
      }
      while (!due_.empty() && due_.top()->due <= now) {
        Stream* stream = due_.top();
        due_.pop();
        stream->send(std::exchange(stream->due, stream->due + period()));
      }
      step(!load_.paced);
    }
  }

  // Handles an event, if there is one or it `waits` for one. By the clock, waiting would come back too late.
  void step(bool waits) {
    void* tag;
    bool ok;
    const auto deadline = waits ? gpr_inf_future(GPR_CLOCK_REALTIME) : gpr_time_0(GPR_CLOCK_REALTIME);
    const auto next = queue_.AsyncNext(&tag, &ok, deadline);
    if (next == grpc::CompletionQueue::TIMEOUT) return;
    if (next == grpc::CompletionQueue::SHUTDOWN) fail("the completion queue ended");
    const auto& event = *static_cast<Stream::Tag*>(tag);
    if (event.stream->handle(event, ok, figures_)) free_.push_back(event.stream);
  }

  void print(double seconds, double used_s) {
    auto& took = figures_.took_us;
    if (took.empty()) fail("nothing was answered");
    std::sort(took.begin(), took.end());
    const auto quantile = [&](double q) { return took[size_t(q * double(took.size() - 1))]; };
    std::cout << "{\"messages\": " << figures_.messages << ", \"rows\": " << figures_.rows << ", \"dropped\": "
              << figures_.dropped << ", \"seconds\": " << seconds << ", \"cpu_s\": " << used_s
              << ", \"p50_us\": " << quantile(.5) << ", \"p99_us\": " << quantile(.99)
              << ", \"p999_us\": " << quantile(.999) << "}" << std::endl;
  }

  const Load& load_;
  const std::vector<std::string> columns_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Stream*> free_;
  std::priority_queue<Stream*, std::vector<Stream*>, Later> due_;  // free ones that send by the clock
  Figures figures_;
};

int main(int argc, char** argv) {
  const Load load = parse(argc, argv);
  Sender sender(load);
  sender.run();
  std::cout.flush();
  _Exit(0);  // calls whose end was read need no clean-up
}
