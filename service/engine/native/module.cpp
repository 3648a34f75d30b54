// The Python module `_core`: graphs opened by ONNX Runtime's C API, and plain turns.
#include "python.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "session.hpp"
#include "turns.hpp"

namespace {

using namespace statestream;

using SharedSession = std::shared_ptr<Session>;

PyTypeObject* session_type = nullptr;
PyTypeObject* run_options_type = nullptr;

// What Python's onnxruntime has handed over in this thread; see `RegisterCustomOps`.
thread_local std::optional<Offer> offered;

// Runs a function that may throw; null, with Python's error set, if it does.
template <class Function>
PyObject* guarded(Function function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

// Lets other threads run Python for as long as it lives.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() { PyEval_RestoreThread(state_); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

bool read_shape(PyObject* given, std::vector<int64_t>& shape) {
  for (Py_ssize_t axis = 0; axis < PyTuple_Size(given); axis++) {
    const long long size = PyLong_AsLongLong(PyTuple_GetItem(given, axis));
    if (size < 0) {
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a shape has a negative axis");
      return false;
    }
    shape.push_back(size);
  }
  return true;
}

// RunOptions

PyObject* make_run_options(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* session;
  if (!PyArg_ParseTuple(args, "O!", session_type, &session)) return nullptr;
  return guarded([&] { return wrap(type, std::make_shared<RunOptions>(value_of<SharedSession>(session)->runtime())); });
}

RunOptions& options_of(PyObject* self) { return *value_of<std::shared_ptr<RunOptions>>(self); }

PyObject* terminate(PyObject* self, void*) { return PyBool_FromLong(options_of(self).terminates()); }

int set_terminate(PyObject* self, PyObject* value, void*) {
  const int wanted = value ? PyObject_IsTrue(value) : 0;
  if (wanted < 0) return -1;
  options_of(self).set_terminates(wanted);
  return 0;
}

PyGetSetDef run_options_properties[] = {{"terminate", terminate, set_terminate, "Whether runs end with an error.", nullptr},
                                        {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot run_options_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_run_options)},
                                   {Py_tp_dealloc, reinterpret_cast<void*>(destroy<std::shared_ptr<RunOptions>>)},
                                   {Py_tp_getset, run_options_properties},
                                   {0, nullptr}};

PyType_Spec run_options_spec = {"statestream.service.engine.native._core.RunOptions",
                                sizeof(Wrapped<std::shared_ptr<RunOptions>>), 0, Py_TPFLAGS_DEFAULT, run_options_slots};

// Session

PyObject* make_session(PyTypeObject* type, PyObject* args, PyObject*) {
  const char* path;
  if (!PyArg_ParseTuple(args, "s", &path)) return nullptr;
  const std::optional<Offer> offer = std::exchange(offered, std::nullopt);
  if (!offer) {
    PyErr_SetString(PyExc_RuntimeError, "onnxruntime's options have not been registered in this thread");
    return nullptr;
  }
  return guarded([&] {
    std::shared_ptr<Session> session;
    {
      const Unlocked unlocked;
      session = std::make_shared<Session>(*offer, path);
    }
    return wrap(type, std::move(session));
  });
}

PyObject* axes(const std::vector<Axis>& shape) {
  PyObject* list = PyList_New(Py_ssize_t(shape.size()));
  for (size_t k = 0; list && k < shape.size(); k++) {
    const Axis& axis = shape[k];
    PyObject* size = axis.size >= 0         ? PyLong_FromLongLong(axis.size)
                     : axis.name.empty() ? Py_NewRef(Py_None)
                                            : PyUnicode_FromString(axis.name.c_str());
    if (!size || PyList_SetItem(list, Py_ssize_t(k), size) < 0) Py_CLEAR(list);
  }
  return list;
}

PyObject* described(const std::vector<TensorInfo>& tensors) {
  PyObject* list = PyList_New(Py_ssize_t(tensors.size()));
  for (size_t k = 0; list && k < tensors.size(); k++) {
    PyObject* each = Py_BuildValue("(siN)", tensors[k].name.c_str(), tensors[k].type, axes(tensors[k].shape));
    if (!each || PyList_SetItem(list, Py_ssize_t(k), each) < 0) Py_CLEAR(list);
  }
  return list;
}

PyObject* inputs(PyObject* self, void*) { return described(value_of<SharedSession>(self)->inputs()); }
PyObject* outputs(PyObject* self, void*) { return described(value_of<SharedSession>(self)->outputs()); }

// A tensor as (type, shape, data).
PyObject* made(const Output& output) {
  size_t bytes = size_of(output.type);
  PyObject* shape = PyTuple_New(Py_ssize_t(output.shape.size()));
  for (size_t axis = 0; shape && axis < output.shape.size(); axis++) {
    bytes *= size_t(output.shape[axis]);
    PyObject* size = PyLong_FromLongLong(output.shape[axis]);
    if (!size || PyTuple_SetItem(shape, Py_ssize_t(axis), size) < 0) Py_CLEAR(shape);
  }
  if (!shape) return nullptr;
  return Py_BuildValue("(iNN)", output.type, shape, PyByteArray_FromStringAndSize(output.data, Py_ssize_t(bytes)));
}

// Reads tensors given as (name, type, shape, data).
bool read_given(PyObject* list, std::vector<Given>& into, Bytes* data) {
  for (Py_ssize_t k = 0; k < PyTuple_Size(list); k++) {
    const char* name;
    int type;
    PyObject* shape;
    PyObject* each = PyTuple_GetItem(list, k);
    if (!PyTuple_Check(each) || !PyArg_ParseTuple(each, "siO!y*", &name, &type, &PyTuple_Type, &shape, &data[k])) {
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a tensor is (name, type, shape, data)");
      return false;
    }
    into.push_back({name, type, {}, data[k].data(), data[k].size()});
    if (!read_shape(shape, into.back().shape)) return false;
  }
  return true;
}

PyObject* run_session(PyObject* self, PyObject* args) {
  PyObject *given, *wanted, *options = nullptr;
  if (!PyArg_ParseTuple(args, "O!O!|O!", &PyTuple_Type, &given, &PyTuple_Type, &wanted, run_options_type, &options))
    return nullptr;
  const auto data = std::make_unique<Bytes[]>(size_t(PyTuple_Size(given)));
  std::vector<Given> feed;
  if (!read_given(given, feed, data.get())) return nullptr;
  std::vector<std::string> names;
  for (Py_ssize_t k = 0; k < PyTuple_Size(wanted); k++) {
    Py_ssize_t size;
    const char* name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(wanted, k), &size);
    if (!name) return nullptr;
    names.emplace_back(name, size_t(size));
  }
  return guarded([&] {
    std::vector<Output> found;
    {
      const Unlocked unlocked;
      found = value_of<SharedSession>(self)->run(feed, names, options ? options_of(options).get() : nullptr);
    }
    PyObject* list = PyList_New(Py_ssize_t(found.size()));
    for (size_t k = 0; list && k < found.size(); k++) {
      PyObject* output = made(found[k]);
      if (!output || PyList_SetItem(list, Py_ssize_t(k), output) < 0) Py_CLEAR(list);
    }
    return list;
  });
}

PyMethodDef session_methods[] = {{"run", run_session, METH_VARARGS, "Run the graph on (name, type, shape, data)."},
                                 {nullptr, nullptr, 0, nullptr}};

PyGetSetDef session_properties[] = {{"inputs", inputs, nullptr, "(name, type, shape) of each input.", nullptr},
                                    {"outputs", outputs, nullptr, "The same of each output.", nullptr},
                                    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot session_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_session)},
                               {Py_tp_dealloc, reinterpret_cast<void*>(destroy<SharedSession>)},
                               {Py_tp_methods, session_methods},
                               {Py_tp_getset, session_properties},
                               {0, nullptr}};

PyType_Spec session_spec = {"statestream.service.engine.native._core.Session", sizeof(Wrapped<SharedSession>), 0,
                            Py_TPFLAGS_DEFAULT, session_slots};

// Turns

struct BoundTurns {
  BoundTurns(Turns made, PyObject* clock) : turns(std::move(made)), clock(Py_NewRef(clock)) {}
  ~BoundTurns() { Py_DECREF(clock); }
  BoundTurns(const BoundTurns&) = delete;

  Turns turns;
  PyObject* clock;
  std::unique_ptr<Bytes[]> held;  // the table's columns
};
using SharedTurns = std::shared_ptr<BoundTurns>;

// Reads tensors given as (name, type, shape), with a fourth value: whether NaN is allowed.
bool read_tensors(PyObject* given, std::vector<Tensor>& into, std::vector<bool>* gappy = nullptr) {
  for (Py_ssize_t k = 0; k < PyTuple_Size(given); k++) {
    const char* name;
    int type, may_be_nan = 0;
    PyObject* shape;
    PyObject* each = PyTuple_GetItem(given, k);
    if (!PyTuple_Check(each) || !PyArg_ParseTuple(each, "siO!|p", &name, &type, &PyTuple_Type, &shape, &may_be_nan)) {
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a tensor is (name, type, shape)");
      return false;
    }
    into.push_back({name, type, {}, false});
    if (gappy) gappy->push_back(may_be_nan);
    if (!read_shape(shape, into.back().shape)) return false;
  }
  return true;
}

PyObject* make_turns(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject *step, *chunk, *given_inputs, *given_outputs, *given_states, *clock;
  TimeLaw law;
  Py_ssize_t max_batch, turn_steps, credit_rows;
  long long max_unacked;
  if (!PyArg_ParseTuple(args, "O!O!O!O!O!(ddd)(nnnL)O", session_type, &step, session_type, &chunk, &PyTuple_Type,
                        &given_inputs, &PyTuple_Type, &given_outputs, &PyTuple_Type, &given_states, &law.nominal_s,
                        &law.min_s, &law.max_s, &max_batch, &turn_steps, &credit_rows, &max_unacked, &clock))
    return nullptr;
  ModelTensors tensors;
  if (!read_tensors(given_inputs, tensors.inputs, &tensors.gappy) || !read_tensors(given_outputs, tensors.outputs) ||
      !read_tensors(given_states, tensors.states))
    return nullptr;
  const TurnLimits limits{size_t(max_batch), size_t(turn_steps), size_t(credit_rows), max_unacked};
  return guarded([&] {
    Turns turns(value_of<SharedSession>(step), value_of<SharedSession>(chunk), std::move(tensors), law, limits);
    return wrap(type, std::make_shared<BoundTurns>(std::move(turns), clock));
  });
}

// A column of the table of so many elements; null, with Python's error set, if it has fewer.
template <class Value>
Value* column(const Bytes& bytes, size_t capacity) {
  if (bytes.size() == capacity * sizeof(Value)) return reinterpret_cast<Value*>(bytes.data());
  PyErr_SetString(PyExc_ValueError, "a column of the table is of another type or length");
  return nullptr;
}

// Columns of a table, in the order of `bind`: those that turns write first, then those that they read, then states.
constexpr size_t kWritten = 4, kColumns = 11;

PyObject* bind(PyObject* self, PyObject* columns) {
  BoundTurns& bound = *value_of<SharedTurns>(self);
  const std::vector<size_t>& states = bound.turns.state_bytes();
  if (!PyTuple_Check(columns) || size_t(PyTuple_Size(columns)) != kColumns + states.size()) {
    PyErr_SetString(PyExc_TypeError, "expected a tuple of 11 columns and the states");
    return nullptr;
  }
  auto held = std::make_unique<Bytes[]>(kColumns + states.size());
  for (size_t k = 0; k < kColumns + states.size(); k++) {
    const int flags = k < kWritten || k >= kColumns ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (PyObject_GetBuffer(PyTuple_GetItem(columns, Py_ssize_t(k)), &held[k], flags) < 0) return nullptr;
  }
  TableView table{};
  table.capacity = held[0].size() / sizeof(int64_t);
  if (!(table.settled_seq = column<int64_t>(held[0], table.capacity)) ||
      !(table.last_ns = column<int64_t>(held[1], table.capacity)) ||
      !(table.last_active_s = column<double>(held[2], table.capacity)) ||
      !(table.latency_s = column<double>(held[3], table.capacity)) ||
      !(table.acked_seq = column<int64_t>(held[4], table.capacity)) ||
      !(table.route = column<int64_t>(held[5], table.capacity)) ||
      !(table.channel = column<int64_t>(held[6], table.capacity)) ||
      !(table.epoch = column<int64_t>(held[7], table.capacity)) ||
      !(table.keep_last = column<int32_t>(held[8], table.capacity)) ||
      !(table.late = column<int8_t>(held[9], table.capacity)) ||
      !(table.gap_resets = column<uint8_t>(held[10], table.capacity)))
    return nullptr;
  for (size_t k = 0; k < states.size(); k++) {
    table.states.push_back(held[kColumns + k].data());
    if (held[kColumns + k].size() != table.capacity * states[k]) {
      PyErr_SetString(PyExc_ValueError, "a state is of another type or shape");
      return nullptr;
    }
  }
  bound.turns.table = std::move(table);
  bound.held = std::move(held);
  Py_RETURN_NONE;
}

// The clock's time; negative, with Python's error set, if it has none.
double now_s(const BoundTurns& bound) {
  PyObject* now = PyObject_CallNoArgs(bound.clock);
  const double found = now ? PyFloat_AsDouble(now) : -1;
  Py_XDECREF(now);
  return found;
}

template <class Value>
PyObject* bytes_of(const Value* values, size_t count) {
  return bytes({reinterpret_cast<const char*>(values), count * sizeof(Value)});
}

// A column of the table for each row.
PyObject* gathered(const int64_t* column, const Turns& turns, const QueuedRows& rows) {
  PyObject* made = PyBytes_FromStringAndSize(nullptr, Py_ssize_t(turns.rows() * sizeof(int64_t)));
  auto* to = made ? reinterpret_cast<int64_t*>(PyBytes_AsString(made)) : nullptr;
  for (size_t row = 0; to && row < turns.rows(); row++) to[row] = column[rows.slot[row]];
  return made;
}

PyObject* results(const Turns& turns, const QueuedRows& rows, double queue_s, double compute_s) {
  PyObject* outputs = PyTuple_New(Py_ssize_t(turns.outputs()));
  for (size_t k = 0; outputs && k < turns.outputs(); k++) {
    PyObject* output = bytes({turns.output(k), turns.output_bytes(k)});
    if (!output || PyTuple_SetItem(outputs, Py_ssize_t(k), output) < 0) Py_CLEAR(outputs);
  }
  if (!outputs) return nullptr;
  const size_t count = turns.rows();
  PyObject* flags = turns.any_flags() ? bytes_of(turns.flags().data(), count) : Py_NewRef(Py_None);
  return Py_BuildValue("(NNNNNNNNnddd)", bytes_of(rows.slot, count), bytes_of(rows.seq, count),
                       gathered(turns.table.route, turns, rows), gathered(turns.table.channel, turns, rows),
                       gathered(turns.table.epoch, turns, rows), bytes_of(turns.dt_s().data(), count), flags, outputs,
                       Py_ssize_t(turns.batch()), queue_s, compute_s, turns.engine_s());
}

PyObject* run_turn(PyObject* self, PyObject* args) {
  BoundTurns& bound = *value_of<SharedTurns>(self);
  Turns& turns = bound.turns;
  Bytes slot, seq, t_ns, received_s, due_s;
  PyObject *due, *given;
  if (!PyArg_ParseTuple(args, "y*y*y*y*OO!", &slot, &seq, &t_ns, &received_s, &due, &PyTuple_Type, &given)) return nullptr;
  if (due != Py_None && PyObject_GetBuffer(due, &due_s, PyBUF_SIMPLE) < 0) return nullptr;
  QueuedRows rows{slot.size() / sizeof(int64_t), nullptr, nullptr, nullptr, nullptr, nullptr, {}};
  if (!(rows.slot = column<int64_t>(slot, rows.count)) || !(rows.seq = column<int64_t>(seq, rows.count)) ||
      !(rows.t_ns = column<int64_t>(t_ns, rows.count)) || !(rows.received_s = column<double>(received_s, rows.count)) ||
      (due != Py_None && !(rows.due_s = column<double>(due_s, rows.count))))
    return nullptr;
  const std::vector<size_t>& row_bytes = turns.input_bytes();
  if (size_t(PyTuple_Size(given)) != row_bytes.size()) {
    PyErr_SetString(PyExc_ValueError, "inputs are missing");
    return nullptr;
  }
  const auto data = std::make_unique<Bytes[]>(row_bytes.size());
  for (size_t k = 0; k < row_bytes.size(); k++) {
    if (PyObject_GetBuffer(PyTuple_GetItem(given, Py_ssize_t(k)), &data[k], PyBUF_SIMPLE) < 0) return nullptr;
    if (data[k].size() != rows.count * row_bytes[k]) {
      PyErr_SetString(PyExc_ValueError, "an input is of another size");
      return nullptr;
    }
    rows.data.push_back(data[k].data());
  }
  return guarded([&]() -> PyObject* {
    const double begin_s = now_s(bound);
    if (PyErr_Occurred()) return nullptr;
    if (!turns.begin(rows, begin_s)) Py_RETURN_NONE;
    bool ran;
    {
      const Unlocked unlocked;
      ran = turns.run();
    }
    if (!ran) Py_RETURN_NONE;
    const double end_s = now_s(bound);
    if (PyErr_Occurred()) return nullptr;
    PyObject* made = results(turns, rows, begin_s - rows.received_s[0], end_s - begin_s);
    if (made) turns.commit(rows, end_s);
    return made;
  });
}

PyMethodDef turns_methods[] = {
    {"bind", bind, METH_O, "Work on a table's columns, until they are replaced."},
    {"run", run_turn, METH_VARARGS, "Run and store a turn of queued rows; None: it is not plain, nothing has changed."},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot turns_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_turns)},
                             {Py_tp_dealloc, reinterpret_cast<void*>(destroy<SharedTurns>)},
                             {Py_tp_methods, turns_methods},
                             {0, nullptr}};

PyType_Spec turns_spec = {"statestream.service.engine.native._core.Turns", sizeof(Wrapped<SharedTurns>), 0,
                          Py_TPFLAGS_DEFAULT, turns_slots};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "ONNX Runtime's C API, plain turns.", -1, nullptr,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

// What `SessionOptions.register_custom_ops_library` calls in the library that it is given, with the API of Python's own
// onnxruntime. There are no operators here: the next session of this thread takes these options, so that they are what
// Python's sessions have.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(1);
  if (!api) return nullptr;
  const auto runtime = std::make_shared<const Runtime>(api);
  OrtSessionOptions* own;
  if (OrtStatus* status = runtime->clone_session_options(options, &own)) return status;
  offered = Offer{runtime, owned(runtime, own, &Runtime::release_session_options)};
  return nullptr;
}

PyMODINIT_FUNC PyInit__core() {
  PyObject* module = PyModule_Create(&definition);
  if (!module) return nullptr;
  session_type = add(module, "Session", session_spec);
  run_options_type = add(module, "RunOptions", run_options_spec);
  if (!session_type || !run_options_type || !add(module, "Turns", turns_spec)) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
