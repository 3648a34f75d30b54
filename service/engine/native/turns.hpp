// Plain turns: rows that only advance their sessions, from the columns of a queue to those of a table.
//
// A turn is plain if every row of it is APPLIED. Whether it is, is known before anything of the table has changed; any
// other turn is left to Python's batcher, which decides on it from the start. What is decided here is decided there
// alike: `admission.py`, `drop_policy.py` and `TimeSpec`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "graph.hpp"

namespace statestream {

struct TimeLaw {
  double nominal_s, min_s, max_s;
};

struct TurnLimits {
  size_t max_batch;    // sessions in a turn
  size_t turn_steps;   // rows of one session in a turn
  size_t credit_rows;  // rows of one session that may wait
  int64_t max_unacked;
};

struct ModelTensors {
  std::vector<Tensor> inputs;
  std::vector<bool> gappy;  // by input: whether NaN says "not measured"
  std::vector<Tensor> outputs, states;
};

// A table's columns, borrowed.
struct TableView {
  size_t capacity = 0;
  int64_t *settled_seq, *last_ns;
  double *last_active_s, *latency_s;
  const int64_t *acked_seq, *route, *channel, *epoch;
  const int32_t* keep_last;
  const int8_t* late;
  const uint8_t* gap_resets;
  std::vector<char*> states;
};

// Queued rows without flags.
struct QueuedRows {
  size_t count;
  const int64_t *slot, *seq, *t_ns;
  const double* received_s;
  const double* due_s;  // null: no row has a deadline
  std::vector<const char*> data;
};

class Turns {
 public:
  Turns(std::shared_ptr<const Session> step, std::shared_ptr<const Session> chunk, ModelTensors tensors, TimeLaw law,
        TurnLimits limits);

  TableView table;

  // Takes the rows of a turn, the first of those that are queued; false: they are not plain.
  bool begin(const QueuedRows& rows, double now_s);
  // Runs the graph; false: it failed, or a state is not finite. Touches nothing of Python's.
  bool run();
  // Stores states and marks of the turn's sessions.
  void commit(const QueuedRows& rows, double now_s);

  size_t rows() const { return rows_; }
  size_t batch() const { return lines_; }
  double engine_s() const { return engine_s_; }
  const std::vector<float>& dt_s() const { return dt_s_; }
  const std::vector<int64_t>& flags() const { return flags_; }
  bool any_flags() const { return any_flags_; }
  const std::vector<size_t>& input_bytes() const { return input_bytes_; }
  const std::vector<size_t>& state_bytes() const { return state_bytes_; }
  size_t outputs() const { return tensors_.outputs.size(); }
  size_t output_bytes(size_t number) const { return tensors_.outputs[number].bytes() * rows_; }
  const char* output(size_t number) const { return graph_->output(number); }

 private:
  bool choose(const QueuedRows& rows);
  bool admit(const QueuedRows& rows, double now_s);
  bool admit_time(size_t row, int64_t t_ns, int64_t& last_ns, bool gap_resets);
  bool finite_inputs(const QueuedRows& rows) const;
  bool finite_states() const;
  bool distinct(const QueuedRows& rows);
  void gather(const QueuedRows& rows);

  const ModelTensors tensors_;
  const TimeLaw law_;
  const TurnLimits limits_;
  std::vector<size_t> input_bytes_, state_bytes_;  // of a row, of a session
  Graph step_, chunk_;
  Graph* graph_ = nullptr;
  size_t rows_ = 0, lines_ = 0;
  double engine_s_ = 0;
  std::vector<float> dt_s_;
  std::vector<int64_t> flags_, last_ns_;  // the latter by session
  bool any_flags_ = false;
  std::vector<uint64_t> seen_;  // by slot: the number of the turn that saw it
  uint64_t turn_ = 0;
};

}  // namespace statestream
