// ONNX Runtime's C API as far as it is used here: functions by their place in its table, to which newer releases only
// append. All of these are of its first version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

extern "C" {
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtAllocator;
struct OrtApi;
struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};
}

namespace statestream {

// Types of elements, by ONNX Runtime's numbers.
enum ElementType : int { kFloat32 = 1, kUint8 = 2, kBool = 9 };

inline size_t size_of(int type) { return type == kFloat32 ? 4 : type == kUint8 || type == kBool ? 1 : 0; }

// What ONNX Runtime says is wrong.
struct RuntimeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <size_t kPlace, class Function>
class Entry;

// A function of the table.
template <size_t kPlace, class Result, class... Parameters>
class Entry<kPlace, Result(Parameters...)> {
 public:
  explicit Entry(const OrtApi* api) : function_(reinterpret_cast<Function const*>(api)[kPlace]) {}
  Result operator()(Parameters... arguments) const { return function_(arguments...); }

 private:
  using Function = Result (*)(Parameters...);
  Function function_;
};

struct Runtime {
  explicit Runtime(const OrtApi* api) : api_(api) {}

  // Throws what a call says is wrong.
  void check(OrtStatus* status) const {
    if (!status) return;
    const std::string text = error_message(status);
    release_status(status);
    throw RuntimeError(text);
  }

  const OrtApi* const api_;
  const Entry<2, const char*(const OrtStatus*)> error_message{api_};
  const Entry<3, OrtStatus*(int level, const char* id, OrtEnv**)> create_env{api_};
  const Entry<7, OrtStatus*(const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**)> create_session{api_};
  const Entry<9, OrtStatus*(OrtSession*, const OrtRunOptions*, const char* const* names, const OrtValue* const* inputs,
                            size_t, const char* const* output_names, size_t, OrtValue** outputs)>
      run{api_};
  const Entry<12, OrtStatus*(const OrtSessionOptions*, OrtSessionOptions**)> clone_session_options{api_};
  const Entry<30, OrtStatus*(const OrtSession*, size_t*)> input_count{api_};
  const Entry<31, OrtStatus*(const OrtSession*, size_t*)> output_count{api_};
  const Entry<33, OrtStatus*(const OrtSession*, size_t, OrtTypeInfo**)> input_type{api_};
  const Entry<34, OrtStatus*(const OrtSession*, size_t, OrtTypeInfo**)> output_type{api_};
  const Entry<36, OrtStatus*(const OrtSession*, size_t, OrtAllocator*, char**)> input_name{api_};
  const Entry<37, OrtStatus*(const OrtSession*, size_t, OrtAllocator*, char**)> output_name{api_};
  const Entry<39, OrtStatus*(OrtRunOptions**)> create_run_options{api_};
  const Entry<46, OrtStatus*(OrtRunOptions*)> set_terminate{api_};
  const Entry<47, OrtStatus*(OrtRunOptions*)> unset_terminate{api_};
  const Entry<49, OrtStatus*(const OrtMemoryInfo*, void*, size_t, const int64_t* shape, size_t, int type, OrtValue**)>
      create_tensor{api_};
  const Entry<51, OrtStatus*(OrtValue*, void**)> tensor_data{api_};
  const Entry<55, OrtStatus*(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**)> as_tensor_info{api_};
  const Entry<60, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int*)> element_type{api_};
  const Entry<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)> rank{api_};
  const Entry<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)> shape{api_};
  const Entry<63, OrtStatus*(const OrtTensorTypeAndShapeInfo*, const char**, size_t)> axis_names{api_};
  const Entry<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> tensor_info{api_};
  const Entry<69, OrtStatus*(int allocator, int memory, OrtMemoryInfo**)> create_cpu_memory{api_};
  const Entry<76, OrtStatus*(OrtAllocator*, void*)> free{api_};
  const Entry<78, OrtStatus*(OrtAllocator**)> default_allocator{api_};
  const Entry<92, void(OrtEnv*)> release_env{api_};
  const Entry<93, void(OrtStatus*)> release_status{api_};
  const Entry<94, void(OrtMemoryInfo*)> release_memory{api_};
  const Entry<95, void(OrtSession*)> release_session{api_};
  const Entry<96, void(OrtValue*)> release_value{api_};
  const Entry<97, void(OrtRunOptions*)> release_run_options{api_};
  const Entry<98, void(OrtTypeInfo*)> release_type{api_};
  const Entry<99, void(OrtTensorTypeAndShapeInfo*)> release_tensor_info{api_};
  const Entry<100, void(OrtSessionOptions*)> release_session_options{api_};
};

// An object of ONNX Runtime's; released by one of its functions.
template <class Object, class Release>
std::shared_ptr<Object> owned(std::shared_ptr<const Runtime> runtime, Object* object, Release release) {
  return {object, [runtime, release](Object* each) { ((*runtime).*release)(each); }};
}

}  // namespace statestream
