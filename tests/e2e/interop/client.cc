// What test_interop.py asks of a client, by gRPC's C++ library: answers in lines of JSON, a line of input goes on.
//
//   client PROTOS TARGET COMMAND [ARGUMENT…]
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "v1/inference.grpc.pb.h"

namespace pb = statestream::v1;

std::string target;
std::vector<std::string> given;

int number(size_t k) { return std::stoi(given.at(k)); }

std::unique_ptr<pb::Inference::Stub> stub(const grpc::ChannelArguments& arguments = {}) {
  return pb::Inference::NewStub(grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));
}

std::string quoted(const std::string& text) {
  std::string found = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') found += '\\';
    found += c;
  }
  return found + '"';
}

template <class Numbers>
std::string list(const Numbers& numbers) {
  std::string found;
  for (const auto number : numbers) found += (found.empty() ? "" : ", ") + std::to_string(number);
  return "[" + found + "]";
}

void go_on() {
  std::string line;
  std::getline(std::cin, line);
}

void get_model(pb::Inference::Stub& stub, grpc::ClientContext& context, const std::string& name) {
  pb::GetModelRequest request;
  pb::GetModelResponse response;
  request.set_name(name);
  const grpc::Status status = stub.GetModel(&context, request, &response);
  std::cout << "{\"code\": " << status.error_code() << ", \"message\": " << quoted(status.error_message())
            << ", \"details\": " << context.GetServerTrailingMetadata().count("grpc-status-details-bin") << "}" << std::endl;
}

using Call = std::unique_ptr<grpc::ClientReaderWriter<pb::StreamRequest, pb::StreamResponse>>;

pb::StreamResponse open(const Call& call, const std::string& model) {
  pb::StreamRequest request;
  pb::StreamResponse response;
  pb::Open& open = *request.add_open();
  open.set_channel(1);
  open.set_model(model);
  open.set_protocol_version(1);
  call->Write(request);
  call->Read(&response);
  return response;
}

pb::StreamRequest rows(int first, int size, int floats) {
  pb::StreamRequest request;
  pb::Steps& steps = *request.mutable_steps();
  for (int seq = first; seq < first + size; seq++) {
    steps.add_channel(1);
    steps.add_seq(seq);
    steps.add_timestamp_ns(seq * 100'000'000LL);
  }
  const std::vector<float> ones(size_t(size) * floats, 1.f);
  pb::Column& column = *steps.add_columns();
  column.set_name("x");
  column.set_data(ones.data(), ones.size() * sizeof(float));
  return request;
}

void status() {
  grpc::ClientContext context;
  std::string bytes(256, 0);
  for (int k = 0; k < 256; k++) bytes[k] = char(k);
  context.AddMetadata("x-note-bin", bytes);
  if (given.size() > 1) context.AddMetadata("authorization", "Bearer " + given[1]);
  get_model(*stub(), context, given.at(0));
}

void gzip() {
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  get_model(*stub(), context, "leaky" + std::string(495, 'y'));
}

void deadline() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(number(0)));
  const auto inference = stub();
  const Call call = inference->Stream(&context);
  const int opened = open(call, "leaky").opened_size();
  pb::StreamResponse response;
  while (call->Read(&response)) {
  }
  std::cout << "{\"opened\": " << opened << ", \"code\": " << call->Finish().error_code() << "}" << std::endl;
}

void stream_rows() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  grpc::ClientContext context;
  const auto inference = stub(arguments);
  const Call call = inference->Stream(&context);
  const int failed = open(call, given.at(0)).failed_size(), size = number(2), sent = number(1) * size;
  for (int seq = 1; seq <= sent; seq += size) call->Write(rows(seq, size, number(3)));
  std::cout << "{\"sent\": " << sent << ", \"failed\": " << failed << "}" << std::endl;
  go_on();
  int rows = 0;
  size_t bytes = 0;
  bool in_order = true;
  pb::StreamResponse response;
  while (rows < sent && call->Read(&response)) {
    for (const auto seq : response.results().seq()) in_order = in_order && int(seq) == ++rows;
    for (const auto& column : response.results().columns()) bytes += column.data().size();
  }
  std::cout << "{\"in_order\": " << (in_order ? "true" : "false") << ", \"rows\": " << rows << ", \"bytes\": " << bytes << "}"
            << std::endl;
  context.TryCancel();
}

void idle() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, number(0));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  const auto inference = stub(arguments);
  grpc::ClientContext context, later;
  const Call call = inference->Stream(&context);
  std::cout << "{\"opened\": " << open(call, "leaky").opened_size() << "}" << std::endl;
  go_on();
  pb::StreamResponse response;
  call->Write(rows(1, 1, 2));
  call->Read(&response);
  const std::string& data = response.results().columns(0).data();
  const std::vector<float> y(reinterpret_cast<const float*>(data.data()), reinterpret_cast<const float*>(data.data()) + 2);
  std::cout << "{\"verdict\": " << list(response.results().verdict()) << ", \"y\": " << list(y) << "}" << std::endl;
  std::vector<int> notices;
  while (call->Read(&response))
    for (const auto& notice : response.notices()) notices.push_back(notice.kind());
  std::cout << "{\"code\": " << call->Finish().error_code() << ", \"notices\": " << list(notices) << "}" << std::endl;
  go_on();
  later.set_wait_for_ready(true);
  get_model(*inference, later, "leaky");
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  target = argv[2];
  given.assign(argv + 4, argv + argc);
  const std::string command = argv[3];
  if (command == "status") status();
  if (command == "gzip") gzip();
  if (command == "deadline") deadline();
  if (command == "rows") stream_rows();
  if (command == "idle") idle();
}
