// An engine without its thread over a store in memory.

#ifndef CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_ENGINE_TEST_UTIL_H_
#define CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_ENGINE_TEST_UTIL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/split_mix.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/tables.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_executor.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {

inline constexpr char kTestOperator[] = "consilium://cards/operator/ops";
inline constexpr std::string_view kTestLayout =
    "consilium-layout 1\n"
    "shared F32 2 a\n";

class EngineTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    StartEngine();
  }
  void TearDown() override { engine_.reset(); }

  // Over store_, which is seeded.
  void StartEngine() {
    MakeEngine();
    // The seed's version is no version file.
    ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(FederationRow row, GetFederation(tx));
      row.current_version.reset();
      return SetFederation(tx, row);
    }));
    ASSERT_OK(engine_->StartForTest());
  }
  // Over what the one before left in the store.
  absl::Status RestartEngine() {
    engine_.reset();
    MakeEngine();
    return engine_->StartForTest();
  }
  void MakeEngine() {
    EngineOptions options;
    options.federation = "cards";
    options.round_defaults.deadline = absl::Hours(1);
    EngineDeps deps;
    deps.store = store_.get();
    deps.clock = &clock_;
    deps.random = random_source();
    deps.ingest = &ingest_;
    deps.listener = &listener_;
    deps.signing_key = &signing_key_;
    deps.storage_key = &storage_key_;
    deps.ca = ca();
    deps.log = [this](std::string_view, int64_t, std::string_view,
                      std::string_view text) {
      if (on_log_) on_log_(text);
    };
    engine_ = std::make_unique<Engine>(std::move(options), std::move(deps));
  }
  virtual RandomSource* random_source() { return &random_; }
  virtual const LiveIssuingCa* ca() { return nullptr; }

  absl::StatusOr<VersionRow> Import() {
    CONSILIUM_ASSIGN_OR_RETURN(const Layout layout, Layout::Parse(kTestLayout));
    CONSILIUM_ASSIGN_OR_RETURN(BlobWriter blob, store_->blobs().NewWriter(0));
    const std::vector<float> zeros(2, 0.0f);
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrittenVersion written,
        WriteVersionFile(
            layout, Sha256(kTestLayout),
            [&](const TensorSlot&) {
              return absl::StatusOr<std::span<const float>>(zeros);
            },
            Sha256HasherFactory(), blob.file()));
    imported_ = written.digest;
    return engine_->ImportVersion(kTestOperator, std::string(kTestLayout),
                                  std::move(blob), written.digest,
                                  written.info.file_bytes, "base");
  }

  absl::StatusOr<int64_t> StartRound(const Settings& overrides = {}) {
    return engine_->StartRound(kTestOperator, overrides, {}, "manual", "");
  }
  Caller CallerOf(const std::string& name) {
    return Caller{engine_->peers().Find(name), "01"};
  }
  // With the blob of the version that was imported.
  absl::StatusOr<int64_t> AddVersion(int64_t parent, VersionState state) {
    int64_t number = 0;
    CONSILIUM_RETURN_IF_ERROR(Write([&](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(VersionRow row, GetVersion(tx, parent));
      row.parent = parent;
      row.state = state;
      CONSILIUM_ASSIGN_OR_RETURN(const InsertedVersion made,
                                 InsertVersion(tx, row, nullptr));
      number = made.row.number;
      return absl::OkStatus();
    }));
    return number;
  }

  FakeClock clock_;
  SplitMixRandom random_{1};
  NullListener listener_;
  ManualExecutor ingest_;
  SigningKey signing_key_ = SigningKey::Generate(random_).value();
  StorageKey storage_key_ = StorageKey::Generate(random_);
  std::function<void(std::string_view text)> on_log_;
  std::unique_ptr<Engine> engine_;
  Sha256Digest imported_;  // of the last Import()
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_ENGINE_TEST_UTIL_H_
