// Streams rows to a session from C++, with gRPC and the .proto files alone.
//
//   make && ./stream 127.0.0.1:50051 wrist left-arm < rows.txt
//
// A line of input is a row: its time in nanoseconds, then its values as measured (relative.h converts relative columns).
// A line of output is what became of it: seq, verdict, seconds that passed, values. The session stays: run it again, and
// it goes on where it was. A stream that breaks is followed by another within half a minute, and no row is lost or
// counted twice.

#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "relative.h"
#include "v1/inference.grpc.pb.h"

namespace pb = statestream::v1;

constexpr std::uint32_t kChannel = 1;
constexpr std::uint32_t kProtocolVersion = 1;

void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message());
}

// Whether a stream ended for reasons of the way to the server, so that another one may do better. A proxy that cuts a
// stream, as HAProxy does one that was idle for its `timeout server`, makes CANCELLED of it, though this program cancels
// nothing, or, by gRPC 1.51, UNKNOWN. The server itself uses neither.
bool Broken(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE || status.error_code() == grpc::StatusCode::CANCELLED ||
         status.error_code() == grpc::StatusCode::UNKNOWN;
}

// One session on a stream of its own, and on the next one when that breaks.
class Session {
 public:
  Session(const std::shared_ptr<grpc::Channel>& channel, const std::string& model, const std::string& id)
      : stub_(pb::Inference::NewStub(channel)) {
    grpc::ClientContext context;
    pb::GetModelRequest wanted;
    pb::GetModelResponse found;
    wanted.set_name(model);
    Check(stub_->GetModel(&context, wanted, &found));
    if (found.model().inputs_size() != 1) throw std::runtime_error(model + " has more inputs than this example knows");
    input_ = found.model().inputs(0);
    relative_ = std::make_unique<Relative>(found.model().manifest_json());

    open_.set_channel(kChannel);
    open_.set_session_id(id);
    open_.set_model(model);
    open_.set_protocol_version(kProtocolVersion);
    pb::StreamResponse response;
    Check(Open(&response));
    opened_ = response.opened(0);
    seq_ = opened_.settled_seq();
    // From now on it is this session, also while the server believes in the stream that broke.
    open_.set_session_id(opened_.session_id());
    open_.set_resume(pb::RESUME_MODE_EXISTING);
    open_.set_take_over(true);
  }

  const pb::Opened& opened() const { return opened_; }

  // Elements of one row.
  std::size_t size() const {
    std::size_t size = 1;
    for (const auto length : input_.shape()) size *= length;
    return size;
  }

  // Sends a row and waits for what becomes of it. What was answered before is acknowledged, so that the server may
  // forget it.
  pb::Results Step(std::int64_t timestamp_ns, const std::vector<double>& values) {
    const std::vector<float> row = (*relative_)(values);
    pb::StreamRequest request;
    request.mutable_acks()->add_channel(kChannel);
    request.mutable_acks()->add_seq(seq_);
    pb::Steps* steps = request.mutable_steps();
    steps->add_channel(kChannel);
    steps->add_seq(++seq_);
    steps->add_timestamp_ns(timestamp_ns);
    pb::Column* column = steps->add_columns();
    column->set_name(input_.name());
    column->set_data(row.data(), row.size() * sizeof(float));  // the wire is little-endian, as are these machines
    pb::StreamResponse response;
    for (grpc::Status status = Ask(request, &response); !status.ok(); status = Ask(request, &response)) {
      // A row that was settled before the stream broke comes with the answer to the Open; another one is sent again.
      if (Resume(status).results().seq_size() > 0) return resumed_.results();
    }
    return response.results();
  }

  // Says that there is no more; the session waits to be resumed.
  void Finish() {
    stream_->WritesDone();
    pb::StreamResponse rest;
    while (stream_->Read(&rest)) {
    }
    const grpc::Status status = stream_->Finish();
    if (!Broken(status)) Check(status);  // a stream that was cut has ended, too, and every row is answered
  }

 private:
  // Begins a stream and binds the session to it.
  grpc::Status Open(pb::StreamResponse* response) {
    context_ = std::make_unique<grpc::ClientContext>();
    stream_ = stub_->Stream(context_.get());
    pb::StreamRequest request;
    *request.add_open() = open_;
    return Ask(request, response);
  }

  // Binds the session to another stream, within half a minute. What the server has of it must be what was sent here.
  const pb::StreamResponse& Resume(grpc::Status status) {
    for (int attempt = 0; !status.ok(); ++attempt) {
      if (!Broken(status) || attempt == kAttempts) Check(status);
      std::cerr << "connecting again: " << status.error_code() << " " << status.error_message() << "\n";
      std::this_thread::sleep_for(attempt ? kPause : std::chrono::milliseconds(0));
      status = Open(&resumed_);
    }
    const std::uint64_t settled = resumed_.opened(0).settled_seq();
    if (settled != seq_ && settled != seq_ - 1) throw std::runtime_error("another client had the session meanwhile");
    if (settled != seq_) resumed_.clear_results();  // of the row before, which was answered already
    return resumed_;
  }

  // Writes a request and reads until something answers it. Not OK: the stream has ended.
  grpc::Status Ask(const pb::StreamRequest& request, pb::StreamResponse* response) {
    stream_->Write(request);
    while (stream_->Read(response)) {
      for (const auto& failed : response->failed()) throw std::runtime_error(failed.field() + ": " + failed.text());
      for (const auto& notice : response->notices()) std::cerr << notice.text() << "\n";
      if (response->opened_size() > 0 || response->results().seq_size() > 0) return grpc::Status::OK;
    }
    const grpc::Status status = stream_->Finish();
    return status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server ended the stream") : status;
  }

  static constexpr int kAttempts = 30;
  static constexpr std::chrono::milliseconds kPause{1000};

  std::unique_ptr<pb::Inference::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::StreamRequest, pb::StreamResponse>> stream_;
  pb::Open open_;
  pb::Tensor input_;
  std::unique_ptr<Relative> relative_;
  pb::Opened opened_;
  pb::StreamResponse resumed_;
  std::uint64_t seq_ = 0;
};

void Print(const pb::Results& results) {
  std::cout << results.seq(0) << " " << pb::Verdict_Name(results.verdict(0)) << " " << results.dt_s(0);
  for (const auto& column : results.columns()) {
    std::vector<float> values(column.data().size() / sizeof(float));
    std::memcpy(values.data(), column.data().data(), column.data().size());
    for (const float value : values) std::cout << " " << value;
  }
  for (const auto& detail : results.details()) std::cout << " " << detail.text();
  std::cout << std::endl;
}

void Stream(const std::string& target, const std::string& model, const std::string& id) {
  Session session(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()), model, id);
  std::cerr << (session.opened().resumed() ? "resumed" : "opened") << " " << session.opened().session_id() << " after row "
            << session.opened().settled_seq() << "\n";
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::int64_t timestamp_ns = 0;
    std::vector<double> row;
    if (!(words >> timestamp_ns)) continue;
    for (std::string word; words >> word;) row.push_back(std::stod(word));  // which knows "nan", as >> does not
    if (row.size() != session.size()) {
      throw std::runtime_error("a row has " + std::to_string(session.size()) + " values, got '" + line + "'");
    }
    Print(session.Step(timestamp_ns, row));
  }
  session.Finish();
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " HOST:PORT MODEL SESSION < rows\n";
    return 2;
  }
  try {
    std::cout.precision(9);
    Stream(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
