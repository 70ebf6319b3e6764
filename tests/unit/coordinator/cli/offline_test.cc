// --offline over a real store, init, and the operator's configuration.

#include "consilium/base/bytes.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/random.h"
#include "coordinator/app/config.h"
#include "coordinator/store/store.h"
#include "coordinator/store/tables.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/cli/cli_harness.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class OfflineTest : public CliTest {
 protected:
  OfflineTest() {
    env_.connect = ConnectAdmin;
    env_.random = SystemRandom();
  }

  void Init() {
    ASSERT_EQ(Run({"init", dir_ / "cards", "--name", "cards", "--host",
                   "fl.example.org", "--listen", "0.0.0.0:9000", "--sealing",
                   "off", "--metrics-listen", "off", "--json"}),
              0)
        << err();
  }
  int Offline(std::vector<std::string> args) {
    args.insert(args.begin(), {"--offline", dir_ / "cards"});
    return Run(args);
  }

  TempDir dir_;
};

TEST_F(OfflineTest, InitMakesAFederationAsAsked) {
  Init();
  EXPECT_EQ(Json()["federation"], "cards");
  EXPECT_EQ(Json()["sealing"], false);
  EXPECT_EQ(Json()["ca_fingerprint"].get<std::string>().size(), 64u);
  ASSERT_OK_AND_ASSIGN(
      const std::string config,
      ReadWholeFile(env_.fs, dir_ / "cards/consilium.toml", 1 << 20));
  // Institutions are not told to connect to every interface.
  EXPECT_THAT(config,
              HasSubstr("\nadvertised_address = \"fl.example.org:9000\""));
  EXPECT_THAT(config, AllOf(HasSubstr("\naddress = \"0.0.0.0:9000\""),
                            HasSubstr("\nmode = \"off\""),
                            HasSubstr("\nmetrics_address = \"\"")));
  ASSERT_OK_AND_ASSIGN(
      const OperatorConfig op,
      LoadOperatorConfig(env_.fs, dir_ / "cards/operator/config.toml"));
  EXPECT_EQ(op.coordinator, "fl.example.org:9000");
  EXPECT_EQ(op.key, dir_ / "cards/operator/operator.key");
  // Not over what is there.
  EXPECT_EQ(Run({"init", dir_ / "cards", "--name", "cards"}), 1);
  EXPECT_EQ(Run({"init", dir_ / "x", "--name", "cards", "--listen", "9000"}),
            2);
  EXPECT_FALSE(env_.fs->Exists(dir_ / "x"));
}

TEST_F(OfflineTest, InitWritesAddressesThatCanBeConnectedTo) {
  struct Case {
    std::vector<std::string> args;
    std::string coordinator;
    std::string advertised;
  };
  int n = 0;
  for (const Case& c : std::vector<Case>{
           {{"--host", "::1", "--listen", "[::1]:38443"}, "[::1]:38443", ""},
           {{"--host", "fl.example.org", "--listen", "10.0.0.5:8443"},
            "fl.example.org:8443",
            "fl.example.org:8443"},
           {{"--host", "fl.example.org", "--host", "10.0.0.5", "--listen",
             "10.0.0.5:8443"},
            "fl.example.org:8443",
            ""},
           {{"--host", "2001:db8::7", "--listen", "[::]:8443"},
            "[2001:db8::7]:8443",
            "[2001:db8::7]:8443"},
           {{"--listen", "127.0.0.1:8443"}, "localhost:8443", ""}}) {
    const std::string dir = dir_ / Cat("federation", ++n);
    SCOPED_TRACE(dir);
    std::vector<std::string> args = {"init", dir, "--name", "cards"};
    args.insert(args.end(), c.args.begin(), c.args.end());
    ASSERT_EQ(Run(args), 0) << err();
    ASSERT_OK_AND_ASSIGN(
        const OperatorConfig op,
        LoadOperatorConfig(env_.fs, JoinPath(dir, "operator/config.toml")));
    EXPECT_EQ(op.coordinator, c.coordinator);
    ASSERT_OK_AND_ASSIGN(const CoordinatorConfig config,
                         LoadConfig(JoinPath(dir, "consilium.toml")));
    EXPECT_EQ(config.listen.advertised_address, c.advertised);
  }
}

TEST_F(OfflineTest, TheAuditLogIsCheckedWithoutASignature) {
  Init();
  ASSERT_EQ(Offline({"audit", "verify"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("not checked, a stopped coordinator"));
}

TEST_F(OfflineTest, AFileThatMayNotBeReadIsNoConnectionError) {
  class Locked final : public ForwardingFileSystem {
   public:
    absl::StatusOr<FileInfo> Stat(const std::string& path) override {
      return absl::PermissionDeniedError(path);
    }
  };
  Init();
  Locked locked;
  env_.fs = &locked;
  EXPECT_EQ(Offline({"status"}), 1);
  // It is there, and nobody is to look for another one.
  EXPECT_THAT(err(), AllOf(HasSubstr("cards/consilium.toml"),
                           Not(HasSubstr("consilium init"))));
}

TEST_F(OfflineTest, OnlyAStoreInUseIsAskedWithoutOffline) {
  Init();
  {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<FileLock> lock,
                         env_.fs->LockFile(dir_ / "cards/data/lock"));
    EXPECT_EQ(Offline({"status"}), 1);
    EXPECT_THAT(err(), HasSubstr("asked without --offline"));
  }
  ASSERT_OK(env_.fs->Truncate(dir_ / "cards/data/history.db", 0));
  ASSERT_OK(env_.fs->RemoveTree(dir_ / "cards/data/history.db-wal"));
  EXPECT_EQ(Offline({"status"}), 1);
  EXPECT_THAT(err(), Not(HasSubstr("without --offline")));
}

TEST_F(OfflineTest, EveryListAndShowVerbReadsTheStore) {
  Init();
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{{"status"},
                                             {"federation", "show"},
                                             {"institution", "list"},
                                             {"round", "list"},
                                             {"contribution", "list"},
                                             {"version", "list"},
                                             {"schedule", "show"},
                                             {"cert", "status"},
                                             {"db", "check"},
                                             {"audit", "tail"},
                                             {"audit", "verify"}}) {
    EXPECT_EQ(Offline(verb), 0) << verb.front() << ": " << err();
    std::vector<std::string> json = verb;
    json.push_back("--json");
    EXPECT_EQ(Offline(json), 0) << verb.front() << ": " << err();
    EXPECT_TRUE(Json().is_object());
  }
  ASSERT_EQ(Offline({"audit", "tail", "--json"}), 0);
  EXPECT_EQ(Json()["entries"][0]["action"], "federation.init");
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0);
  EXPECT_EQ(Json()["certificates"][0]["role"], "operator");
  EXPECT_EQ(Offline({"round", "show", "7"}), 1);
  EXPECT_THAT(err(), HasSubstr("round list"));
}

TEST_F(OfflineTest, ChangesAreRefusedWithWhatToDo) {
  Init();
  EXPECT_EQ(Offline({"round", "start"}), 1);
  EXPECT_THAT(err(), HasSubstr("needs a running coordinator"));
}

TEST_F(OfflineTest, ARunningCoordinatorIsNotReadBehindItsBack) {
  Init();
  StoreOptions options;
  options.data_dir = dir_ / "cards/data";
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Store> store,
                       Store::Open(options));
  EXPECT_EQ(Offline({"status"}), 1);
  EXPECT_THAT(err(), HasSubstr("without --offline"));
}

// Roles and states of `cert status`, but for the operator's.
std::map<std::string, std::string> StatesOf(const nlohmann::json& document) {
  std::map<std::string, std::string> states;
  for (const nlohmann::json& c : document["certificates"]) {
    std::string& states_of = states[c["role"]];
    states_of += states_of.empty() ? "" : " ";
    states_of += c["state"].get<std::string>();
  }
  return states;
}

TEST_F(OfflineTest, EveryCertificateIsRenewedAfterAllHaveEnded) {
  Init();
  ASSERT_OK_AND_ASSIGN(
      const std::string root,
      ReadWholeFile(env_.fs, dir_ / "cards/identity/root-ca.pem", 1 << 16));
  clock_.Advance(kIssuingCaLifetime + absl::Hours(24));
  ASSERT_EQ(Offline({"cert", "status", "--all"}), 0) << err();
  EXPECT_THAT(out(), AllOf(HasSubstr("To do:"), HasSubstr("cert renew-issuer"),
                           HasSubstr("consilium operator invite admin")));
  ASSERT_EQ(Offline({"status"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("the issuing CA ended"));
  // Neither of these has anything to sign with.
  EXPECT_EQ(Offline({"cert", "renew", "--server"}), 1);
  EXPECT_THAT(err(), HasSubstr("cert renew-issuer"));
  EXPECT_EQ(Offline({"cert", "renew"}), 1);

  // The root's key comes from where it is kept.
  ASSERT_OK(env_.fs->Rename(dir_ / "cards/offline/root-ca.key",
                            dir_ / "root-ca.key"));
  EXPECT_EQ(Offline({"cert", "renew-issuer"}), 1);
  EXPECT_THAT(err(), HasSubstr("--root-key"));
  EXPECT_EQ(Run({"cert", "renew-issuer"}), 2);
  EXPECT_THAT(err(), HasSubstr("--offline DIR"));
  ASSERT_EQ(Offline({"cert", "renew-issuer", "--root-key", dir_ / "root-ca.key",
                     "--json"}),
            0)
      << err();
  EXPECT_EQ(
      StatesOf(Json()),
      (std::map<std::string, std::string>{
          {"server", "valid"}, {"issuing-ca", "valid"}, {"root-ca", "valid"}}));
  ASSERT_EQ(Offline({"cert", "renew"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("consilium://cards/operator/admin"));
  EXPECT_OK(LoadTlsIdentity(
      env_.fs,
      {dir_ / "cards/operator/ca.pem", dir_ / "cards/operator/operator.pem",
       dir_ / "cards/operator/operator.key"},
      CertificateUse::kClient, clock_.Now()));
  EXPECT_OK(LoadTlsIdentity(
      env_.fs,
      {dir_ / "cards/identity/root-ca.pem", dir_ / "cards/identity/server.pem",
       dir_ / "cards/identity/server.key"},
      CertificateUse::kServer, clock_.Now()));
  EXPECT_THAT(
      ReadWholeFile(env_.fs, dir_ / "cards/identity/root-ca.pem", 1 << 16),
      IsOkAndHolds(root));
  ASSERT_EQ(Offline({"audit", "tail", "--limit", "1", "--json"}), 0);
  EXPECT_EQ(Json()["entries"][0]["action"], "certificate.renew");
  EXPECT_EQ(Json()["entries"][0]["actor"], "offline");

  // Again, while the first one is good: it stays trusted.
  ASSERT_EQ(
      Offline({"cert", "renew-issuer", "--root-key", dir_ / "root-ca.key"}), 0)
      << err();
  EXPECT_THAT(out(), HasSubstr("SIGHUP"));
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0) << err();
  EXPECT_EQ(StatesOf(Json())["issuing-ca"], "valid former");
  EXPECT_EQ(StatesOf(Json())["operator"], "valid");
}

TEST_F(OfflineTest, WithoutCertificateFilesTheirStateIsUnknown) {
  Init();
  ASSERT_OK(env_.fs->Remove(dir_ / "cards/identity/server.pem"));
  ASSERT_OK(env_.fs->Remove(dir_ / "cards/identity/issuing-ca.pem"));
  ASSERT_EQ(Offline({"status"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("server.pem"));
  ASSERT_EQ(Offline({"cert", "status"}), 0) << err();
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0) << err();
  auto states = StatesOf(Json());
  EXPECT_EQ(states["server"], "unknown");
  EXPECT_EQ(states["issuing-ca"], "unknown");
  EXPECT_EQ(states["root-ca"], "valid");
  EXPECT_EQ(states["operator"], "valid");
}

TEST_F(OfflineTest, WhatEndsSoonIsToldWithTheVerbThatRenewsIt) {
  Init();
  clock_.Advance(absl::Hours(24 * 340));
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0) << err();
  std::map<std::string, std::string> advice;
  const nlohmann::json document = Json();
  for (const nlohmann::json& c : document["certificates"]) {
    advice[c["role"]] = c["advice"];
  }
  EXPECT_THAT(advice["server"], HasSubstr("consilium cert renew --server"));
  EXPECT_THAT(advice["operator"], HasSubstr("consilium cert renew"));
  EXPECT_EQ(advice["issuing-ca"], "");
  EXPECT_EQ(StatesOf(document)["server"], "expiring");
  ASSERT_EQ(Offline({"cert", "renew", "--server"}), 0) << err();
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0) << err();
  EXPECT_EQ(StatesOf(Json())["server"], "valid");
  // Cut short by its issuer, a renewed one ends with it: renew that first.
  clock_.Advance(kIssuingCaLifetime - absl::Hours(24 * 360));
  ASSERT_EQ(Offline({"cert", "renew", "--server"}), 0) << err();
  clock_.Advance(absl::Hours(24 * 18));
  ASSERT_EQ(Offline({"cert", "status", "--json"}), 0) << err();
  for (const nlohmann::json& c : Json()["certificates"]) {
    const std::string role = c["role"];
    if (role != "server" && role != "issuing-ca") continue;
    EXPECT_THAT(c["advice"].get<std::string>(), HasSubstr("renew-issuer"));
  }
}

TEST_F(OfflineTest, OnlyStaffThatTheHistoryKnowsIsRenewed) {
  Init();
  StoreOptions options;
  options.data_dir = dir_ / "cards/data";
  {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Store> store,
                         Store::Open(options));
    EXPECT_EQ(Offline({"cert", "renew"}), 1);
    EXPECT_THAT(err(), HasSubstr("stop the coordinator"));
    ASSERT_OK(store->history().Write([&](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto admin,
                                 FindInstitution(tx, "admin"));
      return SetInstitutionState(tx, admin->id, InstitutionState::kRevoked,
                                 clock_.Now());
    }));
    ASSERT_OK(store->Close());
  }
  EXPECT_EQ(Offline({"cert", "renew"}), 1);
  EXPECT_THAT(err(), HasSubstr("revoked"));
}

TEST_F(OfflineTest, NoCoordinatorThere) {
  EXPECT_EQ(Run({"--offline", dir_ / "none", "status"}), 1);
  EXPECT_THAT(err(), HasSubstr("consilium.toml"));
}

TEST_F(OfflineTest, BackupAndRestore) {
  Init();
  ASSERT_EQ(Offline({"db", "backup", dir_ / "backup"}), 0) << err();
  EXPECT_EQ(Offline({"db", "restore", dir_ / "backup"}), 1);
  EXPECT_THAT(err(), HasSubstr("--force"));
  ASSERT_EQ(Offline({"db", "restore", dir_ / "backup", "--force", "--json"}), 0)
      << err();
  EXPECT_EQ(Json()["rounds_cancelled"], 0);
  EXPECT_TRUE(env_.fs->Exists(dir_ / "cards/data.before-restore"));
  ASSERT_EQ(Offline({"db", "check", "--deep"}), 0) << out();
  ASSERT_EQ(Offline({"audit", "tail", "--json"}), 0);
  EXPECT_EQ(Json()["entries"][1]["action"], "db.restore");
}

TEST_F(OfflineTest, WithoutConfigurationItSaysWhereItLooked) {
  variables_["HOME"] = dir_.path();
  EXPECT_EQ(Run({"status"}), 3);
  EXPECT_THAT(err(), HasSubstr(".config/consilium/config.toml"));
  variables_["CONSILIUM_CONFIG"] = dir_ / "mine.toml";
  EXPECT_EQ(Run({"status"}), 3);
  EXPECT_THAT(err(), HasSubstr("mine.toml"));
}

TEST_F(OfflineTest, NobodyListeningIsAConnectionError) {
  Init();
  EXPECT_EQ(Run({"--config", dir_ / "cards/operator/config.toml",
                 "--coordinator", "127.0.0.1:1", "status"}),
            3);
  EXPECT_THAT(err(), HasSubstr("cannot reach the coordinator at 127.0.0.1:1"));
}

TEST_F(OfflineTest, OperatorConfigMistakesAreNamed) {
  const auto load = [&](std::string_view text) {
    EXPECT_OK(WriteFileAtomic(env_.fs, dir_ / "c.toml", AsBytes(text)));
    return LoadOperatorConfig(env_.fs, dir_ / "c.toml").status();
  };
  EXPECT_THAT(load("coordinator = "),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("c.toml: line 1: a value is missing")));
  EXPECT_THAT(load("[coordinator]"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 1: this file has no sections")));
  EXPECT_THAT(load("coordinater = \"x\""),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 1: \"coordinater\"")));
  EXPECT_THAT(load("coordinator = \"h:1\"\ncertificate = 3"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 2: \"certificate\" must be text")));
  EXPECT_THAT(load("coordinator = \"h:1\""),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("certificate is missing")));
}

}  // namespace
}  // namespace consilium
