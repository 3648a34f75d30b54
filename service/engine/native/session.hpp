// A graph opened by ONNX Runtime's C API, for runs from Python and for plain turns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime.hpp"

namespace statestream {

// Options that Python's `SessionOptions` lends, and the runtime that they are of.
struct Offer {
  std::shared_ptr<const Runtime> runtime;
  std::shared_ptr<OrtSessionOptions> options;
};

struct Axis {
  int64_t size;  // -1: any
  std::string name;
};

struct TensorInfo {
  std::string name;
  int type;  // 0: no tensor
  std::vector<Axis> shape;
};

// A tensor that a run takes; its data belongs to the caller.
struct Given {
  std::string name;
  int type;
  std::vector<int64_t> shape;
  void* data;
  size_t bytes;
};

struct Output {
  int type;
  std::vector<int64_t> shape;
  const char* data;
  std::shared_ptr<OrtValue> value;
};

class RunOptions {
 public:
  explicit RunOptions(std::shared_ptr<const Runtime> runtime);
  bool terminates() const { return terminates_; }
  void set_terminates(bool terminates);
  const OrtRunOptions* get() const { return options_.get(); }

 private:
  std::shared_ptr<const Runtime> runtime_;
  std::shared_ptr<OrtRunOptions> options_;
  bool terminates_ = false;
};

// Safe in several threads at once, as ONNX Runtime's sessions are.
class Session {
 public:
  Session(const Offer& offer, const std::string& path);

  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  const std::shared_ptr<const Runtime>& runtime() const { return runtime_; }
  OrtSession* get() const { return session_.get(); }

  std::vector<Output> run(const std::vector<Given>& inputs, const std::vector<std::string>& outputs,
                          const OrtRunOptions* options) const;
  // A tensor on memory of the caller's.
  std::shared_ptr<OrtValue> tensor(void* data, size_t bytes, const std::vector<int64_t>& shape, int type) const;

 private:
  std::shared_ptr<const Runtime> runtime_;
  std::shared_ptr<OrtEnv> env_;
  std::shared_ptr<OrtMemoryInfo> memory_;
  std::shared_ptr<OrtSession> session_;
  std::vector<TensorInfo> inputs_, outputs_;
};

}  // namespace statestream
