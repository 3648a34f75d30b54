// A small fuzzer for where libFuzzer is not: mutates what it is given and what it has made of that.
//
// FUZZER SECONDS SEED FILE …  An input that fails is left in the file FUZZER.failed.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr size_t kMostBytes = 1 << 16, kMostInputs = 4096;
std::mt19937_64 random_bits;
std::string input, failed;

void save() { std::ofstream(failed, std::ios::binary) << input; }

size_t below(size_t limit) { return limit ? random_bits() % limit : 0; }

std::string mutated(std::string input, const std::vector<std::string>& others) {
  for (size_t times = 1 + below(4); times > 0; times--) {
    const size_t at = below(input.size() + 1);
    switch (below(7)) {
      case 0:
        if (!input.empty()) input[below(input.size())] = char(random_bits());
        break;
      case 1:
        if (!input.empty()) input[below(input.size())] ^= char(1 << below(8));
        break;
      case 2:
        input.insert(at, std::string(1 + below(8), char(random_bits())));
        break;
      case 3:
        input.erase(at, 1 + below(16));
        break;
      case 4: {
        const std::string& other = others[below(others.size())];
        const size_t from = below(other.size() + 1);
        input.insert(at, other.substr(from, 1 + below(64)));
        break;
      }
      case 5:
        input.insert(at, input.substr(below(input.size() + 1), 1 + below(32)));
        break;
      default: {
        constexpr uint8_t kOdd[] = {0, 1, 0x7F, 0x80, 0xFF};
        if (!input.empty()) input[below(input.size())] = char(kOdd[below(std::size(kOdd))]);
      }
    }
  }
  input.resize(std::min(input.size(), kMostBytes));
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: fuzzer SECONDS SEED FILE …\n";
    return 2;
  }
  failed = std::string(argv[0]) + ".failed";
  __sanitizer_set_death_callback(save);
  std::signal(SIGABRT, [](int) {
    save();
    std::_Exit(1);
  });
  random_bits.seed(uint64_t(atoll(argv[2])));
  std::vector<std::string> inputs;
  for (int k = 3; k < argc; k++) {
    std::ifstream file(argv[k], std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(atoll(argv[1]));
  uint64_t runs = 0;
  for (; std::chrono::steady_clock::now() < until; runs++) {
    input = mutated(inputs[below(inputs.size())], inputs);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    if (runs % 16 == 0) {
      if (inputs.size() < kMostInputs)
        inputs.push_back(std::move(input));
      else
        inputs[size_t(argc - 3) + below(inputs.size() - size_t(argc - 3))] = std::move(input);
    }
  }
  std::cout << "{\"runs\": " << runs << "}" << std::endl;
}
