// Python's C API for our extension modules: values of C++ as Python objects, and Python's bytes as views.
#pragma once

#include <patchlevel.h>
#if PY_VERSION_HEX >= 0x030B0000
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <new>
#include <string_view>
#include <utility>

namespace statestream {

// A Python object around a value of C++.
template <class Value>
struct Wrapped {
  PyObject_HEAD
  Value value;
};

template <class Value>
Value& value_of(PyObject* self) {
  return reinterpret_cast<Wrapped<Value>*>(self)->value;
}

template <class Value>
PyObject* wrap(PyTypeObject* type, Value value) {
  auto* allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
  PyObject* self = allocate(type, 0);
  if (self) new (&value_of<Value>(self)) Value(std::move(value));
  return self;
}

template <class Value>
void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  value_of<Value>(self).~Value();
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

// A view of a Python object's bytes, for as long as it lives.
class Bytes {
 public:
  ~Bytes() {
    if (view_.obj) PyBuffer_Release(&view_);
  }
  Bytes() = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  Py_buffer* operator&() { return &view_; }
  operator std::string_view() const { return {static_cast<const char*>(view_.buf), size()}; }
  size_t size() const { return size_t(view_.len); }
  char* data() const { return static_cast<char*>(view_.buf); }

 private:
  Py_buffer view_{};
};

inline PyObject* bytes(std::string_view text) { return PyBytes_FromStringAndSize(text.data(), Py_ssize_t(text.size())); }

// Adds a type to the module; null, with Python's error set, if that fails.
inline PyTypeObject* add(PyObject* module, const char* name, PyType_Spec& spec) {
  PyObject* type = PyType_FromSpec(&spec);
  if (type && PyModule_AddObjectRef(module, name, type) == 0) return reinterpret_cast<PyTypeObject*>(type);
  Py_XDECREF(type);
  return nullptr;
}

}  // namespace statestream
