// Relative columns: the difference to the row before, taken before values are rounded to float.
//
// An encoder at 1e8 ticks, or a latitude, changes by less than a float resolves at its magnitude; its differences do not.
// The manifest names these elements; this converts rows as models/relative.py does for Python.

#pragma once

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

// Rows of one session as its model takes them. One object per session.
class Relative {
 public:
  // `manifest_json` is that of pb::Model; its first input is the one whose rows are converted.
  explicit Relative(const std::string& manifest_json) {
    google::protobuf::Struct manifest;
    if (!google::protobuf::util::JsonStringToMessage(manifest_json, &manifest).ok()) {
      throw std::runtime_error("the manifest is no JSON");
    }
    const auto& input = manifest.fields().at("inputs").list_value().values(0).struct_value().fields();
    skips_invalid_ = input.at("nan").string_value() != "not_measured";
    const auto named = input.find("relative");  // left out where there are none
    if (named == input.end()) return;
    const auto& labels = input.at("labels").list_value().values();
    for (const auto& name : named->second.list_value().values()) {
      for (int k = 0; k < labels.size(); ++k) {
        if (labels[k].string_value() == name.string_value()) {
          columns_.push_back({static_cast<std::size_t>(k), std::numeric_limits<double>::quiet_NaN()});
        }
      }
    }
  }

  // Converts a row: the first value of a relative column is 0, one that is not finite stays. A row that the server would
  // answer INVALID, as it has a NaN, is not the one before the next.
  std::vector<float> operator()(const std::vector<double>& row) {
    bool counts = true;
    for (const double value : row) counts = counts && (std::isfinite(value) || !skips_invalid_);
    std::vector<float> converted(row.begin(), row.end());
    for (auto& [column, before] : columns_) {
      const double value = row.at(column);
      if (!std::isfinite(value)) continue;
      converted[column] = static_cast<float>(std::isnan(before) ? 0.0 : value - before);
      if (counts) before = value;
    }
    return converted;
  }

 private:
  bool skips_invalid_ = true;
  std::vector<std::pair<std::size_t, double>> columns_;  // elements, and their last finite values
};
