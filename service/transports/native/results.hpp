// Results of a turn, from columns to `StreamResponse`s of our protocol on the connections that wait for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "connection.hpp"

namespace statestream {

// Rows of a turn that all are APPLIED and have no flag, as arrays of equal length.
struct Results {
  struct Output {
    std::string name;
    std::string_view data;  // of all outputs of the turn
    size_t row_bytes;
  };

  size_t rows;
  const int64_t *route, *channel, *seq, *epoch;
  const int64_t* out;  // the place of each row's outputs
  const float* dt_s;
  std::vector<Output> outputs;
  uint64_t queue_us, compute_us, batch;
};

// A `StreamResponse` with these rows of a turn, in this order, and the outputs at these places of `outputs`.
std::string encode(const Results& results, const std::vector<size_t>& rows, const std::vector<size_t>& wanted);

// Where results go, by the numbers in a table's column `route`.
class Routes {
 public:
  struct Delivery {
    int64_t route;
    int64_t rows;
  };

  void add(int64_t number, std::weak_ptr<Connection> connection, int32_t call, std::vector<std::string> outputs);
  void remove(int64_t number) { routes_.erase(number); }

  // Queues the message of every route that has rows, and says which; nothing at all unless all routes are known.
  bool deliver(const Results& results, std::vector<Delivery>& delivered);

 private:
  struct Route {
    std::weak_ptr<Connection> connection;
    int32_t call;
    std::vector<std::string> outputs;
    std::vector<size_t> rows;  // of the turn being delivered
  };

  std::unordered_map<int64_t, Route> routes_;
};

}  // namespace statestream
