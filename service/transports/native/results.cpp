#include "results.hpp"

#include <algorithm>
#include <cstring>

namespace statestream {

namespace {

constexpr int64_t kApplied = 1;
constexpr unsigned kBytes = 2;  // wire types
constexpr unsigned kVarint = 0;

size_t varint_size(uint64_t value) {
  size_t bytes = 1;
  while (value >>= 7) bytes++;
  return bytes;
}

void put_varint(std::string& out, uint64_t value) {
  for (; value > 0x7F; value >>= 7) out.push_back(char(value | 0x80));
  out.push_back(char(value));
}

void put_tag(std::string& out, unsigned field, unsigned type) { put_varint(out, field << 3 | type); }

void put_bytes(std::string& out, unsigned field, std::string_view bytes) {
  put_tag(out, field, kBytes);
  put_varint(out, bytes.size());
  out.append(bytes);
}

// A packed field of numbers.
template <class Value>
void put_packed(std::string& out, unsigned field, const std::vector<size_t>& rows, Value value) {
  size_t bytes = 0;
  for (const size_t row : rows) bytes += varint_size(value(row));
  put_tag(out, field, kBytes);
  put_varint(out, bytes);
  for (const size_t row : rows) put_varint(out, value(row));
}

void put_number(std::string& out, unsigned field, uint64_t value) {
  if (value == 0) return;
  put_tag(out, field, kVarint);
  put_varint(out, value);
}

void put_times(std::string& out, unsigned field, const std::vector<size_t>& rows, const float* dt_s) {
  put_tag(out, field, kBytes);
  put_varint(out, rows.size() * sizeof(float));
  for (const size_t row : rows) out.append(reinterpret_cast<const char*>(dt_s + row), sizeof(float));
}

void put_column(std::string& out, const Results::Output& output, const std::vector<size_t>& rows, const int64_t* place) {
  const size_t data = rows.size() * output.row_bytes;
  size_t bytes = 1 + varint_size(output.name.size()) + output.name.size();
  if (data) bytes += 1 + varint_size(data) + data;
  put_tag(out, 8, kBytes);
  put_varint(out, bytes);
  put_bytes(out, 1, output.name);
  if (!data) return;
  put_tag(out, 2, kBytes);
  put_varint(out, data);
  for (const size_t row : rows) out.append(output.data.substr(size_t(place[row]) * output.row_bytes, output.row_bytes));
}

}  // namespace

std::string encode(const Results& results, const std::vector<size_t>& rows, const std::vector<size_t>& wanted) {
  std::string body;
  put_packed(body, 1, rows, [&](size_t row) { return uint64_t(results.channel[row]); });
  put_packed(body, 2, rows, [&](size_t row) { return uint64_t(results.seq[row]); });
  put_packed(body, 3, rows, [](size_t) { return uint64_t(kApplied); });
  put_times(body, 6, rows, results.dt_s);
  put_packed(body, 7, rows, [&](size_t row) { return uint64_t(results.epoch[row]); });
  for (const size_t output : wanted) put_column(body, results.outputs[output], rows, results.out);
  put_number(body, 10, results.queue_us);
  put_number(body, 11, results.compute_us);
  put_number(body, 12, results.batch);
  std::string message;
  message.reserve(body.size() + 8);
  put_bytes(message, 2, body);
  return message;
}

void Routes::add(int64_t number, std::weak_ptr<Connection> connection, int32_t call, std::vector<std::string> outputs) {
  routes_[number] = {std::move(connection), call, std::move(outputs), {}};
}

bool Routes::deliver(const Results& results, std::vector<Delivery>& delivered) {
  std::vector<std::pair<int64_t, Route*>> touched;
  bool known = true;
  for (size_t row = 0; row < results.rows && known; row++) {
    const auto found = routes_.find(results.route[row]);
    if ((known = found != routes_.end())) {
      if (found->second.rows.empty()) touched.emplace_back(found->first, &found->second);
      found->second.rows.push_back(row);
    }
  }
  std::vector<size_t> wanted;
  for (const auto& [number, route] : touched) {
    const std::vector<size_t> rows = std::exchange(route->rows, {});
    if (!known) continue;
    wanted.clear();
    for (const std::string& name : route->outputs)
      for (size_t k = 0; k < results.outputs.size(); k++)
        if (results.outputs[k].name == name) wanted.push_back(k);
    if (const auto connection = route->connection.lock()) connection->send(route->call, encode(results, rows, wanted));
    delivered.push_back({number, int64_t(rows.size())});
  }
  return known;
}

}  // namespace statestream
