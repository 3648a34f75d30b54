#include "applied_rows.hpp"

#include <algorithm>
#include <limits>

#include "wire.hpp"

namespace statestream {

namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max(), kMost32 = 0xFFFFFFFF, kApplied = 1;
enum Field : uint64_t { kChannel = 1, kSeq, kVerdict, kTimes = 6, kEpoch, kColumns, kQueue = 10, kCompute, kBatch };

// A column of data; its name is ASCII, since protobuf refuses what is no UTF-8.
bool is_column(std::string_view bytes) {
  Reader reader(bytes);
  uint64_t field;
  std::string_view name, data;
  if (!reader.field(field, name) || field != 1) return false;
  if (!reader.done() && (!reader.field(field, data) || field != 2 || !reader.done())) return false;
  return std::all_of(name.begin(), name.end(), [](char letter) { return uint8_t(letter) < 0x80; });
}

bool read_results(std::string_view bytes, AppliedRows& into) {
  Reader reader(bytes);
  size_t verdicts = 0, applied = 0;
  const auto nothing = [](uint64_t) {};
  for (unsigned seen = 0; !reader.done();) {
    uint64_t tag;
    std::string_view part;
    if (!reader.number(tag)) return false;
    const uint64_t field = tag >> 3;
    if (field < kQueue ? (tag & 7) != 2 || !reader.bytes(part) : (tag & 7) != 0 || field > kBatch) return false;
    if (field == kColumns) {
      if (!is_column(part)) return false;
      continue;
    }
    if (seen & 1u << field) return false;
    seen |= 1u << field;
    uint64_t number = 0;
    if (field >= kQueue && (!reader.number(number) || number > kMost32)) return false;
    switch (field) {
      case kChannel:
        if (!each_number(part, kMost32, nothing)) return false;
        break;
      case kSeq:
        if (!numbers(part, kMost, into.seq)) return false;
        break;
      case kVerdict:
        if (!each_number(part, kApplied, [&](uint64_t verdict) { verdicts++, applied += verdict; })) return false;
        break;
      case kTimes:
        if (part.size() % sizeof(float)) return false;
        break;
      case kEpoch:
        if (!each_number(part, kMost, nothing)) return false;
        break;
      case kQueue:
        into.queue_us = number;
        break;
      case kCompute:
        into.compute_us = number;
        break;
      case kBatch:
        into.batch = number;
        break;
      default:
        return false;
    }
  }
  return applied > 0 && applied == verdicts && applied == into.seq.size();
}

}  // namespace

bool read(std::string_view message, AppliedRows& into) {
  constexpr uint64_t kResults = 2;
  Reader reader(message);
  uint64_t field;
  std::string_view results;
  return reader.field(field, results) && field == kResults && reader.done() && read_results(results, into);
}

}  // namespace statestream
