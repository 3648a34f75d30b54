// A graph with memory of its own for its tensors, which runs of the same shape use again.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "session.hpp"

namespace statestream {

// A tensor of a row or of a session, without the axes before its shape.
struct Tensor {
  std::string name;
  int type;
  std::vector<int64_t> shape;
  bool timed;  // whether it has an axis of time
  size_t bytes() const;
};

// Memory aligned as ONNX Runtime's own is.
class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t bytes);
  char* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };
  std::unique_ptr<char, Free> data_;
};

class Graph {
 public:
  Graph(std::shared_ptr<const Session> session, std::vector<Tensor> inputs, std::vector<Tensor> outputs);

  // Bytes of all tensors, for so many sessions and steps.
  size_t bytes(size_t lines, size_t steps) const;
  // Prepares a run; after it the memory of tensors may be another.
  void begin(size_t lines, size_t steps);
  char* input(size_t number) const { return inputs_.memory[number].data(); }
  const char* output(size_t number) const { return outputs_.memory[number].data(); }
  // Runs what was begun; throws `RuntimeError`. Touches nothing of Python's.
  void run() const;

 private:
  struct Side {
    std::vector<Tensor> tensors;
    std::vector<const char*> names;
    std::vector<Memory> memory;
  };
  struct Values {
    std::vector<std::shared_ptr<OrtValue>> held;
    std::vector<OrtValue*> inputs, outputs;
  };

  Values values(size_t lines, size_t steps) const;

  std::shared_ptr<const Session> session_;
  Side inputs_, outputs_;
  size_t lines_ = 0, cells_ = 0;  // that the memory has room for
  std::map<std::pair<size_t, size_t>, Values> values_;
  Values* begun_ = nullptr;
};

}  // namespace statestream
