#include "client_sdk/transport/config_template.h"

#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

constexpr std::string_view kDefaults = R"(
# The rest shows every other key with its default: take the # away to change
# one. Relative paths start at the folder of this file. Durations: 250ms, 20s,
# 5m, 1h30m.

# client.pem, client.key, root-ca.pem and signing.pub.
# identity_dir = "."
# Outbox and cached versions; one process at a time.
# state_dir = "state"
# HTTP CONNECT proxy: a URL, "none", or "" for what the environment says.
# proxy = ""
# The name in the server's certificate when it is not the host above.
# server_name = ""
# Ask for a new certificate when the coordinator says it is time.
# renew_automatically = true

[timeouts]
# One control call.
# control = "20s"
# A transfer that moves nothing for this long is cut and resumed.
# stall = "1m"
# A ping on the idle connection, and how long its answer may take.
# keepalive = "30s"
# keepalive_answer = "10s"

# Waits between attempts when the coordinator cannot be reached: random, below
# a ceiling that grows from `initial` by `multiplier` to `cap`.
[retry]
# initial = "200ms"
# cap = "30s"
# multiplier = 2.0
# Give up after this long without progress; "0" means never.
# give_up_after = "0"

[storage]
# Survive a loss of power, and not only of the process, during an upload: sync
# the outbox when an upload takes longer than the delay.
# outbox_sync = true
# outbox_sync_delay = "10s"
# Version files to keep.
# cached_versions = 2
# Disk space for files that are done with, to be overwritten by the next ones.
# spare_bytes = 4294967296

# The most that a federation's layout may have: bytes of its text, tensors.
[limits]
# max_layout_bytes = 67108864
# max_layout_slots = 1048576

[log]
# "text" or "json", to standard error.
# format = "text"
# "debug", "info", "warning" or "error".
# level = "info"

# The reference trainer of `consilium-client run`: a mixture-of-experts
# classifier for tables. Needs a program built with CONSILIUM_WITH_TRAINING.
[training]
# The frozen trunk that all institutions share, as the federation handed out.
# base_model = "base_model.safetensors"
# Local rows: CSV with one line of names, then numbers; the column `label` holds
# 0, 1, ... The others are called as the base model names them, in any order.
# Rows never leave this machine.
# table = "train.csv"
# Rows on which candidates are measured; "" declines evaluations.
# validation_table = "validation.csv"
# "auto", "cpu" or "cuda".
# device = "auto"
# Threads of LibTorch.
# threads = 1
# Seed of the order of rows; the round's number is added.
# seed = 1
)";

}  // namespace

std::string ClientConfigText(std::string_view federation,
                             std::string_view institution,
                             std::string_view service_address) {
  return Cat("# consilium-client: institution ", institution, " of federation ",
             federation, ".\n\n", "# host:port of the coordinator.\n",
             "coordinator = \"", service_address, "\"\n", kDefaults);
}

std::string StaffConfigText(const PeerName& name,
                            std::string_view service_address) {
  return Cat("# What the `consilium` command needs: ", PeerRoleName(name.role),
             " ", name.name, " of federation ", name.federation,
             ".\n# Paths count from this file's folder.\ncoordinator = \"",
             service_address, "\"\nfederation = \"", name.federation,
             "\"\ncertificate = \"client.pem\"\nkey = \"client.key\"\n",
             "ca = \"root-ca.pem\"\nsigning_key = \"signing.pub\"\n");
}

}  // namespace consilium::client::internal
