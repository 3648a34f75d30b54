// Accepted means equal to protobuf: a message that the parser takes is one that protobuf reads, and reads alike.
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "rows.hpp"
#include "v1/inference.pb.h"

namespace pb = statestream::v1;
using namespace statestream;

namespace {

void check(bool good, const char* what) {
  if (good) return;
  std::cerr << "differs from protobuf: " << what << std::endl;
  abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto inflow = std::make_shared<Inflow>(std::vector<Input>{{"x", 8}, {"m", 1}}, 1 << 20);
  static const Bindings bindings = {{0, {inflow, 40}}, {1, {inflow, 41}}, {300, {inflow, 42}}};
  static Message message;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const bool taken = message.take(bytes, bindings, 7, 64, 0.5);
  message.woken();
  const Columns rows = inflow->take();
  if (!taken) {
    check(rows.slot.empty() && rows.acks.empty(), "a message that was left has added something");
    return 0;
  }
  pb::StreamRequest request;
  check(request.ParseFromArray(data, int(size)), "it cannot be parsed");
  const pb::Steps& steps = request.steps();
  const auto n = size_t(steps.channel_size());
  check(request.open_size() == 0 && request.close_size() == 0 && steps.flags_size() == 0, "it is not plain");
  check(rows.slot.size() == n && size_t(steps.seq_size()) == n, "the number of rows");
  check(rows.due == (steps.budget_us_size() > 0), "deadlines");
  for (size_t row = 0; row < n; row++) {
    const int at = int(row);
    check(rows.slot[row] == bindings.at(steps.channel(at)).slot, "channel");
    check(uint64_t(rows.seq[row]) == steps.seq(at), "seq");
    check(rows.t_ns[row] == (steps.timestamp_ns_size() ? steps.timestamp_ns(at) : kNoTime), "timestamp_ns");
    if (rows.due) check(rows.due_s[row] == 0.5 + double(steps.budget_us(at)) * 1e-6, "budget_us");
  }
  if (n > 0) {
    check(steps.columns_size() == 2, "columns");
    for (int k = 0; k < 2; k++) {
      check(steps.columns(k).name() == (k ? "m" : "x") && steps.columns(k).frames_size() == 0, "column");
      check(steps.columns(k).data() == rows.data[size_t(k)], "data");
    }
  }
  check(rows.acks.size() == size_t(request.acks().channel_size()), "acks");
  for (size_t k = 0; k < rows.acks.size(); k++) {
    check(rows.acks[k].slot == bindings.at(request.acks().channel(int(k))).slot, "acks.channel");
    check(uint64_t(rows.acks[k].seq) == request.acks().seq(int(k)), "acks.seq");
  }
  return 0;
}
