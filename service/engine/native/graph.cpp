#include "graph.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace statestream {

namespace {

constexpr size_t kAlignment = 64, kMostShapes = 256;

std::vector<const char*> names_of(const std::vector<Tensor>& tensors) {
  std::vector<const char*> names;
  for (const Tensor& tensor : tensors) names.push_back(tensor.name.c_str());
  return names;
}

size_t count(const Tensor& tensor, size_t lines, size_t cells) { return tensor.timed ? cells : lines; }

}  // namespace

size_t Tensor::bytes() const {
  size_t bytes = size_of(type);
  for (const int64_t size : shape) bytes *= size_t(size);
  return bytes;
}

Memory::Memory(size_t bytes)
    : data_(static_cast<char*>(std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment))) {
  if (!data_) throw std::bad_alloc();
}

Graph::Graph(std::shared_ptr<const Session> session, std::vector<Tensor> inputs, std::vector<Tensor> outputs)
    : session_(std::move(session)) {
  inputs_.tensors = std::move(inputs), outputs_.tensors = std::move(outputs);
  for (Side* side : {&inputs_, &outputs_}) {
    side->names = names_of(side->tensors);
    side->memory.resize(side->tensors.size());
  }
}

size_t Graph::bytes(size_t lines, size_t steps) const {
  size_t bytes = 0;
  for (const Side* side : {&inputs_, &outputs_})
    for (const Tensor& tensor : side->tensors) bytes += tensor.bytes() * count(tensor, lines, lines * steps);
  return bytes;
}

void Graph::begin(size_t lines, size_t steps) {
  const size_t cells = lines * steps;
  if (lines > lines_ || cells > cells_) {
    values_.clear();
    lines_ = std::max(lines, lines_), cells_ = std::max(cells, cells_);
    for (Side* side : {&inputs_, &outputs_})
      for (size_t k = 0; k < side->tensors.size(); k++)
        side->memory[k] = Memory(side->tensors[k].bytes() * count(side->tensors[k], lines_, cells_));
  } else if (values_.size() >= kMostShapes) {
    values_.clear();
  }
  auto found = values_.find({lines, steps});
  if (found == values_.end()) found = values_.emplace(std::pair{lines, steps}, values(lines, steps)).first;
  begun_ = &found->second;
}

Graph::Values Graph::values(size_t lines, size_t steps) const {
  Values made;
  for (const Side* side : {&inputs_, &outputs_})
    for (size_t k = 0; k < side->tensors.size(); k++) {
      const Tensor& tensor = side->tensors[k];
      std::vector<int64_t> shape{int64_t(lines)};
      if (tensor.timed) shape.push_back(int64_t(steps));
      shape.insert(shape.end(), tensor.shape.begin(), tensor.shape.end());
      const size_t bytes = tensor.bytes() * count(tensor, lines, lines * steps);
      made.held.push_back(session_->tensor(side->memory[k].data(), bytes, shape, tensor.type));
      (side == &inputs_ ? made.inputs : made.outputs).push_back(made.held.back().get());
    }
  return made;
}

void Graph::run() const {
  const Runtime& runtime = *session_->runtime();
  runtime.check(runtime.run(session_->get(), nullptr, inputs_.names.data(), begun_->inputs.data(), inputs_.names.size(),
                            outputs_.names.data(), outputs_.names.size(), begun_->outputs.data()));
}

}  // namespace statestream
