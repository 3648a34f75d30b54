// Accepted means equal to protobuf: a message that the parser takes is one that protobuf reads, and reads alike.
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "applied_rows.hpp"
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

void check_reply(std::string_view bytes) {
  AppliedRows found;
  if (!read(bytes, found)) return;
  pb::StreamResponse response;
  check(response.ParseFromArray(bytes.data(), int(bytes.size())), "a reply cannot be parsed");
  check(response.opened_size() + response.notices_size() + response.failed_size() + response.closed_size() == 0 &&
            !response.has_progress() && response.results().details_size() == 0,
        "a reply holds more");
  const pb::Results& results = response.results();
  check(size_t(results.seq_size()) == found.seq.size() && results.verdict_size() == results.seq_size(), "replies");
  for (int row = 0; row < results.seq_size(); row++)
    check(results.seq(row) == found.seq[size_t(row)] && results.verdict(row) == pb::VERDICT_APPLIED, "reply");
  check(results.queue_us() == found.queue_us && results.compute_us() == found.compute_us, "times of a reply");
  check(results.batch() == found.batch, "batch of a reply");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto inflow = std::make_shared<Inflow>(std::vector<Input>{{"x", 8}, {"m", 1}}, 1 << 20);
  static const Bindings bindings = {{0, {inflow, 40}}, {1, {inflow, 41}}, {300, {inflow, 42}}};
  static Message message;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_reply(bytes);
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
