#include "session.hpp"

namespace statestream {

namespace {

constexpr int kWarning = 2, kArena = 1, kDefaultMemory = 0;

using Info = const OrtTensorTypeAndShapeInfo*;

std::vector<int64_t> shape_of(const Runtime& runtime, Info info) {
  size_t rank;
  runtime.check(runtime.rank(info, &rank));
  std::vector<int64_t> shape(rank);
  runtime.check(runtime.shape(info, shape.data(), rank));
  return shape;
}

TensorInfo describe(const std::shared_ptr<const Runtime>& runtime, char* name, OrtTypeInfo* type) {
  const auto held = owned(runtime, type, &Runtime::release_type);
  TensorInfo found{name, 0, {}};
  OrtAllocator* allocator;
  runtime->check(runtime->default_allocator(&allocator));
  runtime->check(runtime->free(allocator, name));
  Info info = nullptr;
  runtime->check(runtime->as_tensor_info(type, &info));
  if (!info) return found;
  runtime->check(runtime->element_type(info, &found.type));
  const std::vector<int64_t> shape = shape_of(*runtime, info);
  std::vector<const char*> names(shape.size());
  runtime->check(runtime->axis_names(info, names.data(), names.size()));
  for (size_t axis = 0; axis < shape.size(); axis++) found.shape.push_back({shape[axis], names[axis] ? names[axis] : ""});
  return found;
}

}  // namespace

RunOptions::RunOptions(std::shared_ptr<const Runtime> runtime) : runtime_(std::move(runtime)) {
  OrtRunOptions* options;
  runtime_->check(runtime_->create_run_options(&options));
  options_ = owned(runtime_, options, &Runtime::release_run_options);
}

void RunOptions::set_terminates(bool terminates) {
  runtime_->check(terminates ? runtime_->set_terminate(options_.get()) : runtime_->unset_terminate(options_.get()));
  terminates_ = terminates;
}

Session::Session(const Offer& offer, const std::string& path) : runtime_(offer.runtime) {
  OrtEnv* env;
  runtime_->check(runtime_->create_env(kWarning, "statestream", &env));  // the process's own, once more
  env_ = owned(runtime_, env, &Runtime::release_env);
  OrtMemoryInfo* memory;
  runtime_->check(runtime_->create_cpu_memory(kArena, kDefaultMemory, &memory));
  memory_ = owned(runtime_, memory, &Runtime::release_memory);
  OrtSession* session;
  runtime_->check(runtime_->create_session(env, path.c_str(), offer.options.get(), &session));
  session_ = owned(runtime_, session, &Runtime::release_session);
  OrtAllocator* allocator;
  runtime_->check(runtime_->default_allocator(&allocator));
  size_t count;
  char* name;
  OrtTypeInfo* type;
  runtime_->check(runtime_->input_count(session, &count));
  for (size_t k = 0; k < count; k++) {
    runtime_->check(runtime_->input_name(session, k, allocator, &name));
    runtime_->check(runtime_->input_type(session, k, &type));
    inputs_.push_back(describe(runtime_, name, type));
  }
  runtime_->check(runtime_->output_count(session, &count));
  for (size_t k = 0; k < count; k++) {
    runtime_->check(runtime_->output_name(session, k, allocator, &name));
    runtime_->check(runtime_->output_type(session, k, &type));
    outputs_.push_back(describe(runtime_, name, type));
  }
}

std::shared_ptr<OrtValue> Session::tensor(void* data, size_t bytes, const std::vector<int64_t>& shape, int type) const {
  OrtValue* value;
  runtime_->check(runtime_->create_tensor(memory_.get(), data, bytes, shape.data(), shape.size(), type, &value));
  return owned(runtime_, value, &Runtime::release_value);
}

std::vector<Output> Session::run(const std::vector<Given>& inputs, const std::vector<std::string>& outputs,
                                 const OrtRunOptions* options) const {
  std::vector<const char*> names, output_names;
  std::vector<std::shared_ptr<OrtValue>> values;
  std::vector<const OrtValue*> given;
  for (const Given& each : inputs) {
    names.push_back(each.name.c_str());
    values.push_back(tensor(each.data, each.bytes, each.shape, each.type));
    given.push_back(values.back().get());
  }
  for (const std::string& name : outputs) output_names.push_back(name.c_str());
  std::vector<OrtValue*> made(outputs.size(), nullptr);
  runtime_->check(runtime_->run(session_.get(), options, names.data(), given.data(), given.size(), output_names.data(),
                                output_names.size(), made.data()));
  std::vector<Output> found;
  for (OrtValue* value : made) found.push_back({0, {}, nullptr, owned(runtime_, value, &Runtime::release_value)});
  for (Output& output : found) {
    OrtTensorTypeAndShapeInfo* info;
    runtime_->check(runtime_->tensor_info(output.value.get(), &info));
    const auto held = owned(runtime_, info, &Runtime::release_tensor_info);
    runtime_->check(runtime_->element_type(info, &output.type));
    output.shape = shape_of(*runtime_, info);
    void* data;
    runtime_->check(runtime_->tensor_data(output.value.get(), &data));
    output.data = static_cast<const char*>(data);
  }
  return found;
}

}  // namespace statestream
