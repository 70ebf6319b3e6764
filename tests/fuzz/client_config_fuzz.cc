// Properties: whatever a client's configuration file holds, parsing it ends
// with an error or with options that the client takes and a trainer can use;
// a document written by other rules means the same; and what enrolment writes
// is always read.

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "client_sdk/app/config.h"
#include "client_sdk/session/session.h"
#include "client_sdk/transport/config_template.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/toml_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using consilium::Cat;
using consilium::FuzzInput;
using consilium::Require;
using consilium::client::internal::ClientConfig;
using consilium::client::internal::ParseConfig;
using consilium::client::internal::ValidateOptions;

// Everything of a configuration, as text.
std::string Describe(const ClientConfig& c) {
  const auto& o = c.client;
  const auto& t = c.training;
  const auto text = [](absl::Duration d) { return absl::FormatDuration(d); };
  return Cat(o.coordinator, "\n", o.identity_dir, "\n", o.state_dir, "\n",
             o.proxy, "\n", o.server_name, "\n", text(o.control_timeout), "\n",
             text(o.stall_timeout), "\n", text(o.keepalive_time), "\n",
             text(o.keepalive_timeout), "\n", text(o.retry.initial), "\n",
             text(o.retry.cap), "\n", o.retry.multiplier, "\n",
             text(o.retry.give_up_after), "\n", o.outbox_sync, "\n",
             text(o.outbox_sync_delay), "\n", o.cached_versions, "\n",
             c.renew_automatically, "\n", static_cast<int>(c.log.level), "\n",
             static_cast<int>(c.log.format), "\n", t.base_model, "\n", t.table,
             "\n", t.validation_table, "\n", t.device, "\n", t.threads, "\n",
             t.seed);
}

void Check(std::string_view text) {
  const auto config = ParseConfig(text, "/id");
  const auto document = consilium::ReadToml(text);
  if (document.ok()) {
    const auto same = ParseConfig(consilium::WriteToml(*document), "/id");
    Require(same.ok() == config.ok());
    if (config.ok()) Require(Describe(*same) == Describe(*config));
  }
  if (!config.ok()) {
    Require(!config.status().message().empty());
    return;
  }
  Require(document.ok() && ValidateOptions(config->client).ok());
  const auto& retry = config->client.retry;
  Require(std::isfinite(retry.multiplier) && retry.multiplier >= 1);
  Require(retry.initial <= retry.cap);
  for (const std::string* path :
       {&config->client.identity_dir, &config->client.state_dir,
        &config->training.base_model, &config->training.table,
        &config->training.validation_table}) {
    Require(path->empty() || path->front() == '/');
  }
  Require(config->training.threads >= 1 && config->training.threads <= 1024);
}

// Few random bytes are TOML, so the input also picks keys and values.
std::string Compose(FuzzInput input) {
  constexpr std::array<const char*, 27> kKeys = {
      "coordinator",         "identity_dir",
      "state_dir",           "proxy",
      "server_name",         "renew_automatically",
      "timeouts.control",    "timeouts.stall",
      "timeouts.keepalive",  "timeouts.keepalive_answer",
      "retry.initial",       "retry.cap",
      "retry.multiplier",    "retry.give_up_after",
      "storage.outbox_sync", "storage.outbox_sync_delay",
      "log.format",          "storage.cached_versions",
      "log.level",           "training.base_model",
      "training.table",      "training.validation_table",
      "training.device",     "training.threads",
      "training.seed",       "training",
      "\"retry.cap\""};
  constexpr std::array<const char*, 22> kValues = {
      "0",         "1",          "-1",     "1024",     "9007199254740993",
      "0.5",       "1e300",      "inf",    "nan",      "true",
      "false",     "\"\"",       "\"0\"",  "\"90s\"",  "\"3d7ms\"",
      "\"h:1\"",   "\"json\"",   "\"/a\"", "\"../b\"", "\"cpu\"",
      "\"error\"", "\"forever\""};
  std::string text = "coordinator = \"h:1\"\n";
  for (int count = 0; count < 12 && !input.empty(); ++count) {
    const char* const key = kKeys[input.Byte() % kKeys.size()];
    const size_t choice = input.Byte() % (kValues.size() + 1);
    text += Cat(key, " = ");
    text += choice < kValues.size() ? kValues[choice]
                                    : input.Text(input.Byte() % 16);
    text += '\n';
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool template_reads = [] {
    const std::string text =
        consilium::client::internal::ClientConfigText("cards", "bank-a", "h:1");
    return ParseConfig(text, "/id").ok();
  }();
  Require(template_reads);
  FuzzInput input(data, size);
  Check(Compose(input));
  Check(input.Rest());
  return 0;
}
