// Runs a fuzz target without libFuzzer: files given as arguments are replayed,
// then --runs seeded random inputs, mutated from those files where there are
// any. Keeps every target building and running in ordinary test runs.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  uint64_t runs = 1000;
  uint64_t seed = 1;
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--runs=", 7) == 0) {
      runs = std::strtoull(argv[i] + 7, nullptr, 10);
    } else if (std::strncmp(argv[i], "--seed=", 7) == 0) {
      seed = std::strtoull(argv[i] + 7, nullptr, 10);
    } else {
      std::ifstream in(argv[i], std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(in),
                          std::istreambuf_iterator<char>());
    }
  }
  const auto run = [](const std::string& input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()),
                           input.size());
  };
  for (const std::string& input : corpus) run(input);

  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < runs; ++i) {
    std::string input;
    if (!corpus.empty() && random() % 4 != 0) {
      input = corpus[random() % corpus.size()];
      const uint64_t edits = 1 + random() % 8;
      for (uint64_t e = 0; e < edits && !input.empty(); ++e) {
        switch (random() % 3) {
          case 0:
            input[random() % input.size()] = static_cast<char>(random());
            break;
          case 1:
            input.resize(random() % input.size());
            break;
          default:
            input.push_back(static_cast<char>(random()));
            break;
        }
      }
    } else {
      input.resize(random() % 512);
      for (char& c : input) c = static_cast<char>(random());
    }
    run(input);
  }
  std::printf("%zu corpus inputs and %llu random inputs (seed %llu): ok\n",
              corpus.size(), static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(seed));
  return 0;
}
