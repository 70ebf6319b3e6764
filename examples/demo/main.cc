// consilium-demo: three hospitals, one coordinator, eight rounds, five seeds.

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "consilium/secure/tls13.h"
#include "examples/demo/demo.h"
#include "examples/demo/demo_data.h"

int main(int argc, char** argv) {
  consilium::DemoOptions options;
  CLI::App app(
      "Three hospitals improve one model together, over mutual TLS on this "
      "machine, and keep their rows to themselves.");
  app.add_option("--dir", options.directory,
                 "where everything is kept; what an earlier demo left there is "
                 "replaced");
  app.add_option("--rounds", options.rounds, "rounds for each seed")
      ->check(CLI::Range(1, 1000));
  app.add_option("--seeds", options.seeds, "federations, one after the other")
      ->check(CLI::Range(1, 100));
  app.add_option("--json", options.json, "also write the result to this file");
  std::string data;
  uint64_t seed = 1;
  app.add_option("--write-data", data,
                 "only write version 0, its layout and each hospital's files "
                 "to this directory, for a federation set up by hand");
  app.add_option("--seed", seed, "of --write-data");
  CLI11_PARSE(app, argc, argv);
  if (!data.empty()) {
    const absl::Status written = consilium::WriteDemoData(data, seed);
    if (written.ok()) return 0;
    std::fprintf(stderr, "consilium-demo: %s\n",
                 std::string(written.message()).c_str());
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (const absl::Status tls = consilium::ConfigureTls13Only(); !tls.ok()) {
    std::fprintf(stderr, "consilium-demo: %s\n", tls.ToString().c_str());
    return 1;
  }
  const auto reached = consilium::RunDemo(options);
  if (!reached.ok()) {
    std::fprintf(stderr, "consilium-demo: %s\n",
                 std::string(reached.status().message()).c_str());
    return 1;
  }
  return *reached ? 0 : 1;
}
