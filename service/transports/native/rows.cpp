#include "rows.hpp"

#include <cstring>

#include "wire.hpp"

namespace statestream {

namespace {

constexpr uint64_t kMaxChannel = 65'535, kSeqLimit = uint64_t(1) << 62, kMaxBudget = 0xFFFFFFFF;

int64_t time_at(std::string_view times, size_t row) {
  int64_t value;  // little-endian, as is every machine that this runs on
  std::memcpy(&value, times.data() + row * sizeof value, sizeof value);
  return value;
}

size_t sum(const std::vector<Input>& inputs) {
  size_t bytes = 0;
  for (const Input& input : inputs) bytes += input.row_bytes;
  return bytes;
}

}  // namespace

Inflow::Inflow(std::vector<Input> inputs, size_t most_bytes)
    : inputs_(std::move(inputs)), row_bytes_(sum(inputs_)), most_bytes_(most_bytes) {
  columns_.data.resize(inputs_.size());
}

Columns Inflow::take() {
  bytes_ = 0;
  Columns taken = std::exchange(columns_, {});
  columns_.data.resize(inputs_.size());
  return taken;
}

bool Message::take(std::string_view bytes, const Bindings& bindings, uint64_t stream, size_t most_rows, double now_s) {
  channel_.clear(), seq_.clear(), budget_us_.clear(), ack_channel_.clear(), ack_seq_.clear();
  times_ = {};
  columns_.clear(), rows_.clear(), acks_.clear();
  if (bytes.empty() || !parse(bytes) || !bind(bindings, most_rows) || !fits()) return false;
  add(stream, now_s);
  return true;
}

bool Message::parse(std::string_view bytes) {
  constexpr uint64_t kAcks = 2, kSteps = 3;
  Reader reader(bytes);
  bool acks = false, steps = false;
  while (!reader.done()) {
    uint64_t field;
    std::string_view part;
    if (!reader.field(field, part)) return false;
    if (field == kAcks && !std::exchange(acks, true)) {
      if (!parse_acks(part)) return false;
    } else if (field == kSteps && !std::exchange(steps, true)) {
      if (!parse_steps(part)) return false;
    } else {
      return false;
    }
  }
  return !steps || !channel_.empty();
}

bool Message::parse_acks(std::string_view bytes) {
  Reader reader(bytes);
  for (unsigned seen = 0; !reader.done();) {
    uint64_t field;
    std::string_view part;
    if (!reader.field(field, part) || field < 1 || field > 2 || seen & 1u << field) return false;
    seen |= 1u << field;
    if (!numbers(part, field == 1 ? kMaxChannel : kSeqLimit - 1, field == 1 ? ack_channel_ : ack_seq_)) return false;
  }
  return ack_channel_.size() == ack_seq_.size();
}

bool Message::parse_steps(std::string_view bytes) {
  constexpr uint64_t kChannel = 1, kSeq = 2, kTimes = 3, kBudget = 5, kColumns = 6;
  Reader reader(bytes);
  for (unsigned seen = 0; !reader.done();) {
    uint64_t field;
    std::string_view part;
    if (!reader.field(field, part) || field > kColumns) return false;
    if (field == kColumns) {
      Reader column(part);
      uint64_t first, second;
      columns_.emplace_back();
      if (!column.field(first, columns_.back().name) || first != 1) return false;
      if (!column.field(second, columns_.back().data) || second != 2 || !column.done()) return false;
      continue;
    }
    if (seen & 1u << field) return false;
    seen |= 1u << field;
    if (field == kChannel) {
      if (!numbers(part, kMaxChannel, channel_)) return false;
    } else if (field == kSeq) {
      if (!numbers(part, kSeqLimit - 1, seq_)) return false;
    } else if (field == kBudget) {
      if (!numbers(part, kMaxBudget, budget_us_)) return false;
    } else if (field == kTimes) {
      times_ = part;
    } else {
      return false;
    }
  }
  return true;
}

// Finds the sessions of all channels; those of the rows must be of one model.
bool Message::bind(const Bindings& bindings, size_t most_rows) {
  if (channel_.size() > most_rows || ack_channel_.size() > most_rows) return false;
  for (const auto& [channels, found] : {std::pair{&channel_, &rows_}, std::pair{&ack_channel_, &acks_}})
    for (const uint64_t channel : *channels) {
      const auto binding = bindings.find(uint32_t(channel));
      if (binding == bindings.end() || !binding->second.inflow->has_room(1)) return false;
      found->push_back(&binding->second);
    }
  for (const Binding* row : rows_)
    if (row->inflow != rows_.front()->inflow) return false;
  return true;
}

// Whether every column has what the model wants of so many rows.
bool Message::fits() const {
  const size_t rows = channel_.size();
  if (rows == 0) return true;
  const Inflow& inflow = *rows_.front()->inflow;
  if (seq_.size() != rows || (!budget_us_.empty() && budget_us_.size() != rows)) return false;
  if (!times_.empty() && times_.size() != rows * sizeof(int64_t)) return false;
  if (columns_.size() != inflow.inputs().size() || !inflow.has_room(rows)) return false;
  for (size_t row = 0; row < rows; row++)
    if (seq_[row] == 0 || (!times_.empty() && time_at(times_, row) == kNoTime)) return false;
  for (size_t k = 0; k < columns_.size(); k++) {
    const Input& input = inflow.inputs()[k];
    if (columns_[k].name != input.name || columns_[k].data.size() != rows * input.row_bytes) return false;
  }
  return true;
}

void Message::add(uint64_t stream, double now_s) {
  for (size_t k = 0; k < acks_.size(); k++) {
    wake(*acks_[k]->inflow);
    acks_[k]->inflow->columns_.acks.push_back({acks_[k]->slot, int64_t(ack_seq_[k])});
    acks_[k]->inflow->bytes_ += sizeof(Ack);
  }
  const size_t rows = channel_.size();
  if (rows == 0) return;
  Inflow& inflow = *rows_.front()->inflow;
  wake(inflow);
  Columns& to = inflow.columns_;
  for (size_t row = 0; row < rows; row++) {
    to.slot.push_back(rows_[row]->slot);
    to.seq.push_back(int64_t(seq_[row]));
    to.t_ns.push_back(times_.empty() ? kNoTime : time_at(times_, row));
    to.received_s.push_back(now_s);
    to.due_s.push_back(budget_us_.empty() ? std::numeric_limits<double>::infinity()
                                          : now_s + double(budget_us_[row]) * 1e-6);
  }
  to.due |= !budget_us_.empty();
  for (size_t k = 0; k < columns_.size(); k++) to.data[k].append(columns_[k].data);
  to.offered.emplace_back(stream, int64_t(rows));
  inflow.bytes_ += rows * inflow.row_bytes_;
}

void Message::wake(Inflow& inflow) {
  if (inflow.empty()) woken_.push_back(&inflow);
}

}  // namespace statestream
