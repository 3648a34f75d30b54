// Plain rows: `StreamRequest`s of our protocol that hold nothing but steps and acks, parsed into columns.
//
// The parser accepts less than protobuf does, and what it accepts it reads as protobuf would. Anything else is left to
// Python, which decides on it from the start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace statestream {

constexpr int64_t kNoTime = std::numeric_limits<int64_t>::min();

struct Input {
  std::string name;
  size_t row_bytes;
};

struct Ack {
  int64_t slot, seq;
};

// Rows of one model from all streams, in order of arrival.
struct Columns {
  std::vector<int64_t> slot, seq, t_ns;
  std::vector<double> received_s, due_s;  // the latter infinite where a row has no deadline
  bool due = false;                       // whether any has
  std::vector<std::string> data;          // by input
  std::vector<Ack> acks;
  std::vector<std::pair<uint64_t, int64_t>> offered;  // a stream, and how many rows it has added
};

// Where rows of one model gather until its queue takes them.
class Inflow {
 public:
  Inflow(std::vector<Input> inputs, size_t most_bytes);

  const std::vector<Input>& inputs() const { return inputs_; }
  size_t row_bytes() const { return row_bytes_; }
  size_t rows() const { return columns_.slot.size(); }
  bool empty() const { return columns_.slot.empty() && columns_.acks.empty(); }
  bool has_room(size_t rows) const { return bytes_ + rows * row_bytes_ <= most_bytes_; }
  Columns take();

 private:
  friend class Message;

  const std::vector<Input> inputs_;
  const size_t row_bytes_, most_bytes_;
  size_t bytes_ = 0;
  Columns columns_;
};

struct Binding {
  std::shared_ptr<Inflow> inflow;
  int64_t slot;
};

// Sessions of one stream by its channels.
using Bindings = std::unordered_map<uint32_t, Binding>;

// A message being parsed. Reused, since its columns are.
class Message {
 public:
  // Adds a plain message to its models' rows. False: it is not plain, and nothing was added.
  bool take(std::string_view bytes, const Bindings& bindings, uint64_t stream, size_t most_rows, double now_s);

  // Models that had no rows before, since the last call.
  std::vector<Inflow*> woken() { return std::exchange(woken_, {}); }
  bool any_woken() const { return !woken_.empty(); }

 private:
  bool parse(std::string_view bytes);
  bool parse_steps(std::string_view bytes);
  bool parse_acks(std::string_view bytes);
  bool bind(const Bindings& bindings, size_t most_rows);
  bool fits() const;
  void add(uint64_t stream, double now_s);
  void wake(Inflow& inflow);

  struct Column {
    std::string_view name, data;
  };

  std::vector<uint64_t> channel_, seq_, budget_us_, ack_channel_, ack_seq_;
  std::string_view times_;
  std::vector<Column> columns_;
  std::vector<const Binding*> rows_, acks_;
  std::vector<Inflow*> woken_;
};

}  // namespace statestream
