// The Python module `_core`: connections, inflows and routes for Python's event loop.
#include "service/engine/native/python.hpp"

#include <memory>
#include <numeric>

#include "applied_rows.hpp"
#include "client_call.hpp"
#include "connection.hpp"
#include "results.hpp"

namespace {

using statestream::add;
using statestream::Bytes;
using statestream::bytes;
using statestream::ClientCall;
using statestream::Columns;
using statestream::Connection;
using statestream::destroy;
using statestream::End;
using statestream::Event;
using statestream::Inflow;
using statestream::Input;
using statestream::Limits;
using statestream::Metadata;
using statestream::Results;
using statestream::Routes;
using statestream::value_of;
using statestream::wrap;
using statestream::Wrapped;

using SharedConnection = std::shared_ptr<Connection>;

// An inflow, and the number by which Python knows it.
struct NumberedInflow : Inflow {
  using Inflow::Inflow;
  long long number = 0;
};
using SharedInflow = std::shared_ptr<NumberedInflow>;

PyTypeObject* inflow_type = nullptr;
PyTypeObject* connection_type = nullptr;

Connection& of(PyObject* self) { return *value_of<SharedConnection>(self); }

// Reads a sequence of pairs of bytes; false with Python's error set.
bool read(PyObject* pairs, Metadata& into) {
  PyObject* list = PySequence_List(pairs);
  if (!list) return false;
  bool good = true;
  for (Py_ssize_t k = 0; good && k < PyList_Size(list); k++) {
    Bytes name, value;
    PyObject* pair = PyList_GetItem(list, k);
    if (!PyTuple_Check(pair)) {
      PyErr_SetString(PyExc_TypeError, "metadata is a sequence of pairs of bytes");
      good = false;
    } else {
      good = PyArg_ParseTuple(pair, "y*y*", &name, &value);
    }
    if (good) into.emplace_back(std::string_view(name), std::string_view(value));
  }
  Py_DECREF(list);
  return good;
}

PyObject* pairs(const Metadata& metadata) {
  PyObject* list = PyList_New(Py_ssize_t(metadata.size()));
  for (size_t k = 0; list && k < metadata.size(); k++) {
    PyObject* pair = Py_BuildValue("(NN)", bytes(metadata[k].first), bytes(metadata[k].second));
    if (!pair || PyList_SetItem(list, Py_ssize_t(k), pair) < 0) Py_CLEAR(list);
  }
  return list;
}

PyObject* tuple(const Event& event) {
  PyObject* more = event.kind == Event::CALL ? pairs(event.metadata) : Py_NewRef(Py_None);
  if (!more) return nullptr;
  return Py_BuildValue("(iiNN)", int(event.kind), int(event.call), bytes(event.data), more);
}

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* named) {
  Limits limits;
  const char* names[] = {"calls", "message", "metadata", nullptr};
  if (!PyArg_ParseTupleAndKeywords(args, named, "|$III", const_cast<char**>(names), &limits.calls, &limits.message,
                                   &limits.metadata))
    return nullptr;
  try {
    return wrap(type, std::make_shared<Connection>(limits));
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

// Bits of what `feed` returns.
constexpr long kHasEvents = 1, kHasOutput = 2, kHasRows = 4;

PyObject* feed(PyObject* self, PyObject* args) {
  Bytes data;
  double now_s;
  if (!PyArg_ParseTuple(args, "y*d", &data, &now_s)) return nullptr;
  Connection& connection = of(self);
  connection.feed(data, now_s);
  long found = (connection.has_events() ? kHasEvents : 0) | (connection.wants_to_send() ? kHasOutput : 0);
  if (connection.over()) found |= kHasOutput;
  return PyLong_FromLong(statestream::any_woken() ? found | kHasRows : found);
}

PyObject* events(PyObject* self, PyObject*) {
  const std::vector<Event> found = of(self).events();
  PyObject* list = PyList_New(Py_ssize_t(found.size()));
  for (size_t k = 0; list && k < found.size(); k++) {
    PyObject* event = tuple(found[k]);
    if (!event || PyList_SetItem(list, Py_ssize_t(k), event) < 0) Py_CLEAR(list);
  }
  return list;
}

PyObject* take(PyObject* self, PyObject* args) {
  Py_ssize_t most;
  if (!PyArg_ParseTuple(args, "n", &most)) return nullptr;
  std::string out;
  of(self).take(out, size_t(most));
  return bytes(out);
}

PyObject* answer(PyObject* self, PyObject* args) {
  int call;
  PyObject* given;
  Metadata metadata;
  if (!PyArg_ParseTuple(args, "iO", &call, &given) || !read(given, metadata)) return nullptr;
  of(self).answer(call, metadata);
  Py_RETURN_NONE;
}

PyObject* send(PyObject* self, PyObject* args) {
  int call;
  Bytes message;
  if (!PyArg_ParseTuple(args, "iy*", &call, &message)) return nullptr;
  of(self).send(call, message);
  Py_RETURN_NONE;
}

PyObject* finish(PyObject* self, PyObject* args) {
  int call;
  PyObject* given;
  Metadata metadata;
  if (!PyArg_ParseTuple(args, "iO", &call, &given) || !read(given, metadata)) return nullptr;
  of(self).finish(call, std::move(metadata));
  Py_RETURN_NONE;
}

PyObject* reset(PyObject* self, PyObject* args) {
  int call;
  unsigned error;
  if (!PyArg_ParseTuple(args, "iI", &call, &error)) return nullptr;
  of(self).reset(call, error);
  Py_RETURN_NONE;
}

PyObject* await_sent(PyObject* self, PyObject* args) {
  int call;
  if (!PyArg_ParseTuple(args, "i", &call)) return nullptr;
  return PyBool_FromLong(of(self).await_sent(call));
}

PyObject* handled(PyObject* self, PyObject* args) {
  int call;
  Py_ssize_t count;
  if (!PyArg_ParseTuple(args, "in", &call, &count)) return nullptr;
  of(self).handled(call, size_t(count));
  Py_RETURN_NONE;
}

PyObject* adopt(PyObject* self, PyObject* args) {
  int call;
  unsigned long long stream;
  Py_ssize_t most_rows;
  if (!PyArg_ParseTuple(args, "iKn", &call, &stream, &most_rows)) return nullptr;
  of(self).adopt(call, stream, size_t(most_rows));
  Py_RETURN_NONE;
}

PyObject* release(PyObject* self, PyObject* args) {
  int call;
  if (!PyArg_ParseTuple(args, "i", &call)) return nullptr;
  of(self).release(call);
  Py_RETURN_NONE;
}

PyObject* bind(PyObject* self, PyObject* args) {
  int call;
  unsigned channel;
  PyObject* inflow;
  long long slot;
  if (!PyArg_ParseTuple(args, "iIO!L", &call, &channel, inflow_type, &inflow, &slot)) return nullptr;
  of(self).bind(call, channel, {value_of<SharedInflow>(inflow), slot});
  Py_RETURN_NONE;
}

PyObject* unbind(PyObject* self, PyObject* args) {
  int call;
  unsigned channel;
  if (!PyArg_ParseTuple(args, "iI", &call, &channel)) return nullptr;
  of(self).unbind(call, channel);
  Py_RETURN_NONE;
}

PyObject* clear(PyObject* self, PyObject* args) {
  int call;
  if (!PyArg_ParseTuple(args, "i", &call)) return nullptr;
  of(self).clear(call);
  Py_RETURN_NONE;
}

PyObject* unsent_of(PyObject* self, PyObject* args) {
  int call;
  if (!PyArg_ParseTuple(args, "i", &call)) return nullptr;
  return PyLong_FromSize_t(of(self).unsent(call));
}

PyObject* ping(PyObject* self, PyObject*) {
  of(self).ping();
  Py_RETURN_NONE;
}

PyObject* drain(PyObject* self, PyObject*) {
  of(self).drain();
  Py_RETURN_NONE;
}

PyObject* stop_taking(PyObject* self, PyObject*) {
  of(self).stop_taking();
  Py_RETURN_NONE;
}

PyObject* lost(PyObject* self, PyObject*) {
  of(self).lost();
  Py_RETURN_NONE;
}

PyObject* over(PyObject* self, void*) { return PyBool_FromLong(of(self).over()); }
PyObject* acknowledged(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(of(self).acknowledged()); }
PyObject* calls(PyObject* self, void*) { return PyLong_FromSize_t(of(self).calls()); }
PyObject* unsent(PyObject* self, void*) { return PyLong_FromSize_t(of(self).unsent()); }

PyMethodDef methods[] = {{"feed", feed, METH_VARARGS, "Take what arrived; which of HAS_EVENTS, HAS_OUTPUT and HAS_ROWS."},
                         {"events", events, METH_NOARGS, "What happened: (kind, call, data, metadata or None)."},
                         {"take", take, METH_VARARGS, "What is to be sent, up to about so many bytes."},
                         {"answer", answer, METH_VARARGS, "Begin an answer with metadata."},
                         {"send", send, METH_VARARGS, "Queue a message."},
                         {"finish", finish, METH_VARARGS, "End an answer with trailers."},
                         {"reset", reset, METH_VARARGS, "End a call at once."},
                         {"await_sent", await_sent, METH_VARARGS, "Whether all has left; if not, an event follows."},
                         {"handled", handled, METH_VARARGS, "Give a call's client room for so many bytes more."},
                         {"adopt", adopt, METH_VARARGS, "Parse plain messages of a call's stream."},
                         {"release", release, METH_VARARGS, "Go on parsing, after a message that was not plain."},
                         {"bind", bind, METH_VARARGS, "Add a channel's plain rows to an inflow, with a slot."},
                         {"unbind", unbind, METH_VARARGS, "Leave a channel's rows to Python."},
                         {"clear", clear, METH_VARARGS, "Drop messages that have not begun to leave."},
                         {"unsent_of", unsent_of, METH_VARARGS, "Bytes of an answer that have not left."},
                         {"ping", ping, METH_NOARGS, "Ask for a sign of life."},
                         {"drain", drain, METH_NOARGS, "Announce that no more calls will be taken."},
                         {"stop_taking", stop_taking, METH_NOARGS, "Take no more calls, and say which was the last."},
                         {"lost", lost, METH_NOARGS, "End every call."},
                         {nullptr, nullptr, 0, nullptr}};

PyGetSetDef properties[] = {{"over", over, nullptr, "Whether nothing more is to be read or sent.", nullptr},
                            {"acknowledged", acknowledged, nullptr, "Pings answered.", nullptr},
                            {"calls", calls, nullptr, "Calls at present.", nullptr},
                            {"unsent", unsent, nullptr, "Bytes of all answers that have not left.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};

// Inflow

PyObject* make_inflow(PyTypeObject* type, PyObject* args, PyObject*) {
  long long number;
  PyObject* given;
  Py_ssize_t most_bytes;
  if (!PyArg_ParseTuple(args, "LOn", &number, &given, &most_bytes)) return nullptr;
  PyObject* list = PySequence_List(given);
  if (!list) return nullptr;
  std::vector<Input> inputs;
  bool good = true;
  for (Py_ssize_t k = 0; good && k < PyList_Size(list); k++) {
    const char* name;
    Py_ssize_t row_bytes;
    PyObject* input = PyList_GetItem(list, k);
    if ((good = PyTuple_Check(input) && PyArg_ParseTuple(input, "sn", &name, &row_bytes)))
      inputs.push_back({name, size_t(row_bytes)});
  }
  Py_DECREF(list);
  if (!good) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "inputs are pairs of a name and a size");
    return nullptr;
  }
  auto inflow = std::make_shared<NumberedInflow>(std::move(inputs), size_t(most_bytes));
  inflow->number = number;
  return wrap(type, std::move(inflow));
}

template <class Value>
PyObject* column(const std::vector<Value>& values) {
  return bytes({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)});
}

PyObject* take_rows(PyObject* self, PyObject*) {
  const Columns rows = value_of<SharedInflow>(self)->take();
  PyObject* data = PyTuple_New(Py_ssize_t(rows.data.size()));
  for (size_t k = 0; data && k < rows.data.size(); k++) {
    PyObject* part = bytes(rows.data[k]);
    if (!part || PyTuple_SetItem(data, Py_ssize_t(k), part) < 0) Py_CLEAR(data);
  }
  PyObject* offered = PyList_New(0);
  for (size_t k = 0; offered && k < rows.offered.size(); k++) {
    PyObject* part = Py_BuildValue("(KL)", (unsigned long long)rows.offered[k].first, (long long)rows.offered[k].second);
    if (!part || PyList_Append(offered, part) < 0) Py_CLEAR(offered);
    Py_XDECREF(part);
  }
  if (!data || !offered) {
    Py_XDECREF(data), Py_XDECREF(offered);
    return nullptr;
  }
  PyObject* due = rows.due ? column(rows.due_s) : Py_NewRef(Py_None);
  return Py_BuildValue("(NNNNNNNN)", column(rows.slot), column(rows.seq), column(rows.t_ns), column(rows.received_s),
                       due, data, column(rows.acks), offered);
}

int has_any(PyObject* self) { return !value_of<SharedInflow>(self)->empty(); }
Py_ssize_t rows(PyObject* self) { return Py_ssize_t(value_of<SharedInflow>(self)->rows()); }

PyMethodDef inflow_methods[] = {{"take", take_rows, METH_NOARGS, "Take all rows and acknowledgements."},
                                {nullptr, nullptr, 0, nullptr}};

PyType_Slot inflow_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_inflow)},
                              {Py_tp_dealloc, reinterpret_cast<void*>(destroy<SharedInflow>)},
                              {Py_nb_bool, reinterpret_cast<void*>(has_any)},
                              {Py_sq_length, reinterpret_cast<void*>(rows)},
                              {Py_tp_methods, inflow_methods},
                              {0, nullptr}};

PyType_Spec inflow_spec = {"statestream.service.transports.native._core.Inflow", sizeof(Wrapped<SharedInflow>), 0,
                           Py_TPFLAGS_DEFAULT, inflow_slots};

PyObject* woken(PyObject*, PyObject*) {
  const std::vector<Inflow*> found = statestream::woken();
  PyObject* list = PyList_New(0);
  for (size_t k = 0; list && k < found.size(); k++) {
    PyObject* number = PyLong_FromLongLong(static_cast<NumberedInflow*>(found[k])->number);
    if (!number || PyList_Append(list, number) < 0) Py_CLEAR(list);
    Py_XDECREF(number);
  }
  return list;
}

PyObject* applied_rows(PyObject*, PyObject* given) {
  Bytes message;
  if (PyObject_GetBuffer(given, &message, PyBUF_SIMPLE) < 0) return nullptr;
  statestream::AppliedRows rows;
  if (!statestream::read(message, rows)) Py_RETURN_NONE;
  PyObject* seq = PyTuple_New(Py_ssize_t(rows.seq.size()));
  for (size_t k = 0; seq && k < rows.seq.size(); k++) {
    PyObject* number = PyLong_FromUnsignedLongLong(rows.seq[k]);
    if (!number || PyTuple_SetItem(seq, Py_ssize_t(k), number) < 0) Py_CLEAR(seq);
  }
  if (!seq) return nullptr;
  return Py_BuildValue("(NKKK)", seq, (unsigned long long)rows.queue_us, (unsigned long long)rows.compute_us,
                       (unsigned long long)rows.batch);
}

PyMethodDef functions[] = {{"applied_rows", applied_rows, METH_O, "Seqs and figures of a reply; None: not all APPLIED."},
                           {"woken", woken, METH_NOARGS, "Numbers of the inflows that got rows and had none."},
                           {nullptr, nullptr, 0, nullptr}};

// Routes

PyObject* make_routes(PyTypeObject* type, PyObject* args, PyObject*) {
  if (!PyArg_ParseTuple(args, "")) return nullptr;
  return wrap(type, Routes());
}

PyObject* add_route(PyObject* self, PyObject* args) {
  long long number;
  PyObject *connection, *given;
  int call;
  if (!PyArg_ParseTuple(args, "LO!iO", &number, connection_type, &connection, &call, &given)) return nullptr;
  PyObject* list = PySequence_List(given);
  if (!list) return nullptr;
  std::vector<std::string> outputs;
  bool good = true;
  for (Py_ssize_t k = 0; good && k < PyList_Size(list); k++) {
    Py_ssize_t size;
    const char* name = PyUnicode_AsUTF8AndSize(PyList_GetItem(list, k), &size);
    if ((good = name)) outputs.emplace_back(name, size_t(size));
  }
  Py_DECREF(list);
  if (!good) return nullptr;
  value_of<Routes>(self).add(number, value_of<SharedConnection>(connection), call, std::move(outputs));
  Py_RETURN_NONE;
}

PyObject* remove_route(PyObject* self, PyObject* args) {
  long long number;
  if (!PyArg_ParseTuple(args, "L", &number)) return nullptr;
  value_of<Routes>(self).remove(number);
  Py_RETURN_NONE;
}

// An array of numbers of this size; null, with Python's error set, where it is another one.
template <class Value>
const Value* array(std::string_view bytes, size_t rows) {
  if (bytes.size() == rows * sizeof(Value)) return reinterpret_cast<const Value*>(bytes.data());
  PyErr_SetString(PyExc_ValueError, "columns of different lengths");
  return nullptr;
}

PyObject* deliver(PyObject* self, PyObject* args) {
  Bytes route, channel, seq, epoch, out, dt_s;
  PyObject *names, *given, *places;
  Py_ssize_t output_rows;
  unsigned long long queue_us, compute_us, batch;
  if (!PyArg_ParseTuple(args, "y*y*y*y*Oy*nO!O!(KKK)", &route, &channel, &epoch, &seq, &places, &dt_s, &output_rows,
                        &PyTuple_Type, &names, &PyTuple_Type, &given, &queue_us, &compute_us, &batch))
    return nullptr;
  if (places != Py_None && PyObject_GetBuffer(places, &out, PyBUF_SIMPLE) < 0) return nullptr;
  Results results{};
  results.rows = std::string_view(route).size() / sizeof(int64_t);
  std::vector<int64_t> in_order;
  if (places == Py_None) {
    in_order.resize(results.rows);
    std::iota(in_order.begin(), in_order.end(), 0);
    results.out = in_order.data();
  } else if (!(results.out = array<int64_t>(out, results.rows))) {
    return nullptr;
  }
  if (!(results.route = array<int64_t>(route, results.rows)) || !(results.channel = array<int64_t>(channel, results.rows)) ||
      !(results.seq = array<int64_t>(seq, results.rows)) || !(results.epoch = array<int64_t>(epoch, results.rows)) ||
      !(results.dt_s = array<float>(dt_s, results.rows)))
    return nullptr;
  results.queue_us = queue_us, results.compute_us = compute_us, results.batch = batch;
  for (size_t row = 0; row < results.rows; row++)
    if (results.out[row] < 0 || results.out[row] >= output_rows) {
      PyErr_SetString(PyExc_ValueError, "a row's output is not among those given");
      return nullptr;
    }
  const Py_ssize_t count = PyTuple_Size(given);
  if (PyTuple_Size(names) != count) {
    PyErr_SetString(PyExc_ValueError, "each output needs a name");
    return nullptr;
  }
  const auto data = std::make_unique<Bytes[]>(size_t(count));
  for (Py_ssize_t k = 0; k < count; k++) {
    Bytes& output = data[size_t(k)];
    Py_ssize_t size;
    const char* name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(names, k), &size);
    if (!name || PyObject_GetBuffer(PyTuple_GetItem(given, k), &output, PyBUF_SIMPLE) < 0) return nullptr;
    results.outputs.push_back({{name, size_t(size)}, output, results.rows ? output.size() / size_t(output_rows) : 0});
  }
  std::vector<Routes::Delivery> delivered;
  if (!value_of<Routes>(self).deliver(results, delivered)) Py_RETURN_NONE;
  PyObject* list = PyList_New(Py_ssize_t(delivered.size()));
  for (size_t k = 0; list && k < delivered.size(); k++) {
    PyObject* pair = Py_BuildValue("(LL)", (long long)delivered[k].route, (long long)delivered[k].rows);
    if (!pair || PyList_SetItem(list, Py_ssize_t(k), pair) < 0) Py_CLEAR(list);
  }
  return list;
}

PyMethodDef routes_methods[] = {{"add", add_route, METH_VARARGS, "Send the results of a route to a call."},
                                {"remove", remove_route, METH_VARARGS, "Forget a route."},
                                {"deliver", deliver, METH_VARARGS, "Send a turn; rows by route, None: not all known."},
                                {nullptr, nullptr, 0, nullptr}};

PyType_Slot routes_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_routes)},
                              {Py_tp_dealloc, reinterpret_cast<void*>(destroy<Routes>)},
                              {Py_tp_methods, routes_methods},
                              {0, nullptr}};

PyType_Spec routes_spec = {"statestream.service.transports.native._core.Routes", sizeof(Wrapped<Routes>), 0,
                           Py_TPFLAGS_DEFAULT, routes_slots};

// ClientCall

using OwnCall = std::unique_ptr<ClientCall>;

ClientCall& call_of(PyObject* self) { return *value_of<OwnCall>(self); }

PyObject* make_call(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* given;
  Py_ssize_t most;
  Metadata metadata;
  if (!PyArg_ParseTuple(args, "On", &given, &most) || !read(given, metadata)) return nullptr;
  try {
    return wrap(type, std::make_unique<ClientCall>(metadata, size_t(most)));
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* take_output(PyObject* self, PyObject*) {
  std::string out;
  call_of(self).take(out);
  return bytes(out);
}

PyObject* feed_call(PyObject* self, PyObject* given) {
  Bytes data;
  if (PyObject_GetBuffer(given, &data, PyBUF_SIMPLE) < 0) return nullptr;
  call_of(self).feed(data);
  const std::vector<std::string> found = call_of(self).messages();
  PyObject* list = PyList_New(Py_ssize_t(found.size()));
  for (size_t k = 0; list && k < found.size(); k++) {
    PyObject* message = bytes(found[k]);
    if (!message || PyList_SetItem(list, Py_ssize_t(k), message) < 0) Py_CLEAR(list);
  }
  return list ? Py_BuildValue("(NN)", list, take_output(self, nullptr)) : nullptr;
}

PyObject* send_message(PyObject* self, PyObject* given) {
  Bytes message;
  if (PyObject_GetBuffer(given, &message, PyBUF_SIMPLE) < 0) return nullptr;
  call_of(self).send(message);
  return take_output(self, nullptr);
}

template <void (ClientCall::*act)()>
PyObject* output_of(PyObject* self, PyObject*) {
  (call_of(self).*act)();
  return take_output(self, nullptr);
}

PyObject* end_of(PyObject* self, void*) {
  const std::optional<End>& end = call_of(self).end();
  if (!end) Py_RETURN_NONE;
  PyObject* headers = pairs(end->headers);
  return headers ? Py_BuildValue("(NI)", headers, unsigned(end->error)) : nullptr;
}

PyObject* unsent_of_call(PyObject* self, void*) { return PyLong_FromSize_t(call_of(self).unsent()); }

PyMethodDef call_methods[] = {
    {"feed", feed_call, METH_O, "Take what arrived; messages, and what is to be sent."},
    {"take", take_output, METH_NOARGS, "What is to be sent."},
    {"send", send_message, METH_O, "Queue a message; what is to be sent."},
    {"finish", output_of<&ClientCall::finish>, METH_NOARGS, "Send no more messages; what is to be sent."},
    {"cancel", output_of<&ClientCall::cancel>, METH_NOARGS, "End the call at once; what is to be sent."},
    {"ping", output_of<&ClientCall::ping>, METH_NOARGS, "Ask for a sign of life; what is to be sent."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef call_properties[] = {
    {"end", end_of, nullptr, "The last headers and HTTP/2's error code; None: the call goes on.", nullptr},
    {"unsent", unsent_of_call, nullptr, "Bytes that wait for the server's window.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot call_slots[] = {{Py_tp_new, reinterpret_cast<void*>(make_call)},
                            {Py_tp_dealloc, reinterpret_cast<void*>(destroy<OwnCall>)},
                            {Py_tp_methods, call_methods},
                            {Py_tp_getset, call_properties},
                            {0, nullptr}};

PyType_Spec call_spec = {"statestream.service.transports.native._core.ClientCall", sizeof(Wrapped<OwnCall>), 0,
                         Py_TPFLAGS_DEFAULT, call_slots};

// The module

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy<SharedConnection>)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, properties},
                       {0, nullptr}};

PyType_Spec spec = {"statestream.service.transports.native._core.Connection", sizeof(Wrapped<SharedConnection>), 0,
                    Py_TPFLAGS_DEFAULT, slots};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "HTTP/2, gRPC's framing, plain rows.", -1, functions,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() {
  PyObject* module = PyModule_Create(&definition);
  if (!module) return nullptr;
  connection_type = add(module, "Connection", spec);
  inflow_type = add(module, "Inflow", inflow_spec);
  if (!connection_type || !inflow_type || !add(module, "Routes", routes_spec) ||
      !add(module, "ClientCall", call_spec)) {
    Py_DECREF(module);
    return nullptr;
  }
  const std::pair<const char*, long> constants[] = {
      {"CALL", Event::CALL}, {"MESSAGE", Event::MESSAGE}, {"HALF_CLOSED", Event::HALF_CLOSED}, {"GONE", Event::GONE},
      {"SENT", Event::SENT}, {"HAS_EVENTS", kHasEvents},  {"HAS_OUTPUT", kHasOutput},          {"HAS_ROWS", kHasRows}};
  for (const auto& [name, value] : constants)
    if (PyModule_AddIntConstant(module, name, value) < 0) {
      Py_DECREF(module);
      return nullptr;
    }
  return module;
}
