#include "turns.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>

namespace statestream {

namespace {

constexpr int64_t kNoTime = std::numeric_limits<int64_t>::min();
constexpr int64_t kTimeClamped = 1, kTimeRaised = 4;  // bits of ResultFlag
constexpr uint32_t kSign = 0x80000000, kInfinity = 0x7F800000;
constexpr size_t kMostBytes = 4 << 20;  // of a turn's tensors; what copies more gains little

double thread_s() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + double(now.tv_nsec) * 1e-9;
}

// Whether no number is infinite or, unless it is allowed, NaN.
bool finite(const char* data, size_t count, bool nan_allowed) {
  bool bad = false;
  for (size_t k = 0; k < count; k++) {
    uint32_t bits;
    std::memcpy(&bits, data + k * sizeof bits, sizeof bits);
    bad |= nan_allowed ? (bits & ~kSign) == kInfinity : (bits & kInfinity) == kInfinity;
  }
  return !bad;
}

Tensor named(const Tensor& tensor, const char* prefix, const char* suffix, bool timed) {
  return {prefix + tensor.name + suffix, tensor.type, tensor.shape, timed};
}

// A graph's tensors, in the order that `gather` and `commit` know: inputs, dt, [valid,] states; outputs, states.
Graph graph(std::shared_ptr<const Session> session, const ModelTensors& tensors, bool chunk) {
  const char* suffix = chunk ? "_seq" : "";
  std::vector<Tensor> inputs, outputs;
  for (const Tensor& tensor : tensors.inputs) inputs.push_back(named(tensor, "", suffix, chunk));
  inputs.push_back({std::string("dt") + suffix, kFloat32, {1}, chunk});
  if (chunk) inputs.push_back({"valid", kBool, {}, true});
  for (const Tensor& tensor : tensors.states) inputs.push_back(named(tensor, "state_", "", false));
  for (const Tensor& tensor : tensors.outputs) outputs.push_back(named(tensor, "", suffix, chunk));
  for (const Tensor& tensor : tensors.states) outputs.push_back(named(tensor, "state_", "_out", false));
  return Graph(std::move(session), std::move(inputs), std::move(outputs));
}

}  // namespace

Turns::Turns(std::shared_ptr<const Session> step, std::shared_ptr<const Session> chunk, ModelTensors tensors,
             TimeLaw law, TurnLimits limits)
    : tensors_(std::move(tensors)),
      law_(law),
      limits_(limits),
      step_(graph(std::move(step), tensors_, false)),
      chunk_(graph(std::move(chunk), tensors_, true)) {
  for (const Tensor& input : tensors_.inputs) input_bytes_.push_back(input.bytes());
  for (const Tensor& state : tensors_.states) state_bytes_.push_back(state.bytes());
}

bool Turns::begin(const QueuedRows& rows, double now_s) {
  if (!choose(rows) || !admit(rows, now_s) || !finite_inputs(rows)) return false;
  if (graph_->bytes(lines_, rows_ / lines_) > kMostBytes) return false;
  graph_->begin(lines_, rows_ / lines_);
  gather(rows);
  return true;
}

// One row of each of several sessions, or the first rows of one session.
bool Turns::choose(const QueuedRows& rows) {
  if (rows.count == 0) return false;
  for (size_t row = 0; row < rows.count; row++)
    if (rows.slot[row] < 0 || size_t(rows.slot[row]) >= table.capacity) return false;
  if (rows.count == 1 || distinct(rows)) {
    graph_ = &step_, rows_ = lines_ = rows.count;
    return lines_ <= limits_.max_batch;
  }
  const auto slot = size_t(rows.slot[0]);
  if (std::any_of(rows.slot, rows.slot + rows.count, [&](int64_t other) { return size_t(other) != slot; })) return false;
  if (rows.count > limits_.credit_rows || table.gap_resets[slot]) return false;
  if (table.keep_last[slot] > 0 && rows.count > size_t(table.keep_last[slot])) return false;
  rows_ = std::min(rows.count, limits_.turn_steps), lines_ = 1;
  graph_ = rows_ == 1 ? &step_ : &chunk_;
  return true;
}

bool Turns::distinct(const QueuedRows& rows) {
  seen_.resize(table.capacity);
  turn_++;
  for (size_t row = 0; row < rows.count; row++)
    if (std::exchange(seen_[size_t(rows.slot[row])], turn_) == turn_) return false;
  return true;
}

bool Turns::admit(const QueuedRows& rows, double now_s) {
  dt_s_.resize(rows_), flags_.resize(rows_), last_ns_.resize(lines_);
  any_flags_ = false;
  if (rows.due_s)
    for (size_t row = 0; row < rows.count; row++)
      if (table.late[rows.slot[row]] && rows.due_s[row] < now_s) return false;
  for (size_t row = 0; row < rows_; row++) {
    const auto slot = size_t(rows.slot[row]);
    const size_t line = lines_ == 1 ? 0 : row, before = lines_ == 1 ? row : 0;
    if (before == 0) last_ns_[line] = table.last_ns[slot];
    if (rows.seq[row] != table.settled_seq[slot] + 1 + int64_t(before)) return false;
    if (rows.seq[row] > table.acked_seq[slot] + limits_.max_unacked) return false;
    if (!admit_time(row, rows.t_ns[row], last_ns_[line], table.gap_resets[slot])) return false;
  }
  return true;
}

// The row's dt, by the law of `TimeSpec`; false: time runs backwards, or the state would be reset.
bool Turns::admit_time(size_t row, int64_t t_ns, int64_t& last_ns, bool gap_resets) {
  double dt_s = law_.nominal_s;
  flags_[row] = 0;
  if (t_ns != kNoTime && last_ns != kNoTime) {
    if (t_ns < last_ns) return false;
    const double passed_s = double(uint64_t(t_ns) - uint64_t(last_ns)) * 1e-9;
    dt_s = std::min(std::max(passed_s, law_.min_s), law_.max_s);
    if (passed_s > law_.max_s && gap_resets) return false;
    if (passed_s > law_.max_s) flags_[row] = kTimeClamped;
    if (passed_s < law_.min_s) flags_[row] = kTimeRaised;
    any_flags_ |= flags_[row] != 0;
  }
  if (t_ns != kNoTime) last_ns = t_ns;
  dt_s_[row] = float(dt_s);
  return true;
}

bool Turns::finite_inputs(const QueuedRows& rows) const {
  for (size_t k = 0; k < tensors_.inputs.size(); k++) {
    const Tensor& input = tensors_.inputs[k];
    if (input.type == kFloat32 && !finite(rows.data[k], rows_ * input_bytes_[k] / sizeof(float), tensors_.gappy[k]))
      return false;
  }
  return true;
}

void Turns::gather(const QueuedRows& rows) {
  size_t number = 0;
  for (size_t k = 0; k < tensors_.inputs.size(); k++)
    std::memcpy(graph_->input(number++), rows.data[k], rows_ * input_bytes_[k]);
  std::memcpy(graph_->input(number++), dt_s_.data(), rows_ * sizeof(float));
  if (graph_ == &chunk_) std::memset(graph_->input(number++), 1, rows_);
  for (size_t k = 0; k < state_bytes_.size(); k++, number++)
    for (size_t line = 0; line < lines_; line++)
      std::memcpy(graph_->input(number) + line * state_bytes_[k], table.states[k] + size_t(rows.slot[line]) * state_bytes_[k],
                  state_bytes_[k]);
}

bool Turns::run() {
  const double begin_s = thread_s();
  try {
    graph_->run();
  } catch (const RuntimeError&) {  // Python meets it too, and reports it.
    return false;
  }
  engine_s_ = thread_s() - begin_s;
  return finite_states();
}

bool Turns::finite_states() const {
  for (size_t k = 0; k < state_bytes_.size(); k++)
    if (tensors_.states[k].type == kFloat32 &&
        !finite(graph_->output(outputs() + k), lines_ * state_bytes_[k] / sizeof(float), false))
      return false;
  return true;
}

void Turns::commit(const QueuedRows& rows, double now_s) {
  for (size_t k = 0; k < state_bytes_.size(); k++)
    for (size_t line = 0; line < lines_; line++)
      std::memcpy(table.states[k] + size_t(rows.slot[line]) * state_bytes_[k],
                  graph_->output(outputs() + k) + line * state_bytes_[k], state_bytes_[k]);
  for (size_t row = 0; row < rows_; row++) {
    const auto slot = size_t(rows.slot[row]);
    table.settled_seq[slot] = rows.seq[row];
    table.last_ns[slot] = last_ns_[lines_ == 1 ? 0 : row];
    table.last_active_s[slot] = now_s;
    table.latency_s[slot] = now_s - rows.received_s[row];
  }
}

}  // namespace statestream
