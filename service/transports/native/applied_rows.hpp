// Replies whose rows were all APPLIED, read without protobuf's objects: what a load test counts of them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace statestream {

struct AppliedRows {
  std::vector<uint64_t> seq;
  uint64_t queue_us = 0, compute_us = 0, batch = 0;
};

// Reads a `StreamResponse`. False: it holds something else, or more; protobuf has to read it. Accepts less than protobuf
// does, and reads what it accepts as protobuf would.
bool read(std::string_view message, AppliedRows& into);

}  // namespace statestream
