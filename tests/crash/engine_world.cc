#include "tests/crash/engine_world.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <utility>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr char kDataDir[] = "/data";

std::string NextVfsName() {
  static std::atomic<int> next{0};
  return Cat("crash-", next.fetch_add(1));
}

// Two worlds with one history must not draw the same upload ids.
uint64_t NextSeed() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1);
}

struct Keys {
  SigningKey signing;
  StorageKey storage;
  LiveIssuingCa ca;
};

// One set for all worlds of the process: they are not what is tested.
const Keys& SharedKeys() {
  static const Keys* const keys = [] {
    SeededRandom random(7);
    // Clocks may be set back for a while, but not beyond its birth.
    const absl::Time born = FakeClock().Now() - absl::Hours(24 * 500);
    NewCertificateAuthority made =
        *CreateCertificateAuthority("cards", born, random);
    return new Keys{*SigningKey::Generate(random), StorageKey::Generate(random),
                    LiveIssuingCa(*IssuingCa::Create(
                        "cards", made.root_pem, made.issuing_pem,
                        std::move(made.issuing_key), born))};
  }();
  return *keys;
}

void Walk(FileSystem& fs, const std::string& directory,
          const std::function<void(const std::string&)>& visit) {
  const std::vector<std::string> names = *fs.List(directory);
  for (const std::string& name : names) {
    const std::string path = JoinPath(directory, name);
    if (fs.Stat(path)->is_directory) {
      Walk(fs, path, visit);
    } else {
      visit(path);
    }
  }
}

Layout LayoutOf(int64_t shared) {
  std::vector<SlotSpec> slots;
  const auto add = [&](std::string name, std::vector<int64_t> shape,
                       const char* group) {
    slots.push_back({std::move(name), std::move(shape), DType::kF32,
                     *GroupName::Parse(group)});
  };
  add("trunk.a", {4, 5}, "shared");
  add("trunk.b", {shared}, "shared");
  add("experts.0", {7}, "expert/0/0");
  add("experts.1", {9}, "expert/0/1");
  add("experts.2", {3}, "expert/0/2");
  return *Layout::Create(std::move(slots));
}

}  // namespace

Layout SmallLayout() { return LayoutOf(30); }
Layout LayoutOfTwoFrames() { return LayoutOf(kMaxElementsPerFrame + 100); }

// --- the image ---------------------------------------------------------------

class ImageMaker {
 public:
  static DiskImage Make(const Layout& layout) {
    EngineWorld world{EngineWorld::Empty()};
    const absl::Status made = Fill(world, layout);
    if (!made.ok()) {
      ADD_FAILURE() << made;
      std::abort();  // nothing after it could make sense
    }
    world.Down();
    return world.TakeImage();
  }

 private:
  static absl::Status Fill(EngineWorld& world, const Layout& layout) {
    CONSILIUM_RETURN_IF_ERROR(world.OpenStore(/*create=*/true));
    CONSILIUM_RETURN_IF_ERROR(
        world.store_->history().Write([&](WriteTx& tx) -> absl::Status {
          FederationRow federation;
          federation.name = "cards";
          federation.created_at = world.clock_.Now();
          CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, federation));
          for (const char* name : {"bank-a", "bank-b"}) {
            InstitutionRow row;
            row.name = name;
            row.state = InstitutionState::kActive;
            row.created_at = row.updated_at = world.clock_.Now();
            CONSILIUM_RETURN_IF_ERROR(InsertInstitution(tx, row).status());
          }
          return absl::OkStatus();
        }));
    CONSILIUM_RETURN_IF_ERROR(world.StartEngine());
    CONSILIUM_RETURN_IF_ERROR(world.engine_->SetPolicy(
        "test", {{"quorum", "2"}, {"evaluation.quorum", "2"}}, ""));
    CONSILIUM_ASSIGN_OR_RETURN(BlobWriter blob,
                               world.store_->blobs().NewWriter(0));
    std::vector<float> values;
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrittenVersion written,
        WriteVersionFile(
            layout, layout.ComputeId(Sha256HasherFactory()),
            [&](const TensorSlot& slot)
                -> absl::StatusOr<std::span<const float>> {
              values.assign(static_cast<size_t>(slot.elements), 0.75f);
              return std::span<const float>(values);
            },
            Sha256HasherFactory(), blob.file()));
    return world.engine_
        ->ImportVersion("test", layout.CanonicalText(), std::move(blob),
                        written.digest, written.info.file_bytes, "first")
        .status();
  }
};

DiskImage EngineWorld::MakeImage(const Layout& layout) {
  return ImageMaker::Make(layout);
}

DiskImage EngineWorld::TakeImage() {
  DiskImage image;
  Walk(fs_, "/", [&](const std::string& path) {
    image[path] = *ReadWholeFile(&fs_, path, int64_t{1} << 30);
  });
  return image;
}

// --- the world ---------------------------------------------------------------

EngineWorld::EngineWorld(Empty)
    : fs_(&clock_), vfs_(&fs_, NextVfsName()), random_(NextSeed()) {}

EngineWorld::EngineWorld(const DiskImage& image) : EngineWorld(Empty()) {
  for (const auto& [path, bytes] : image) {
    CONSILIUM_CHECK(fs_.MakeDirs(DirName(path)).ok());
    CONSILIUM_CHECK(WriteFileAtomic(&fs_, path, AsBytes(bytes), 0600).ok());
  }
}

EngineWorld::~EngineWorld() {
  Down();
  if (!testing::Test::HasFailure()) return;
  for (const std::string& line : Log()) {
    std::fprintf(stderr, "  log: %s\n", line.c_str());
  }
}

const SigningKey& EngineWorld::signing_key() { return SharedKeys().signing; }
const IssuingCa& EngineWorld::ca() {
  static const std::shared_ptr<const IssuingCa> ca = SharedKeys().ca.Get();
  return *ca;
}

absl::Status EngineWorld::OpenStore(bool create) {
  StoreOptions options;
  options.fs = &fs_;
  options.vfs = vfs_.name();
  options.data_dir = kDataDir;
  options.create = create;
  options.syncer_threads = 1;
  options.min_free_bytes = 0;
  CONSILIUM_ASSIGN_OR_RETURN(store_, Store::Open(options));
  return absl::OkStatus();
}

absl::Status EngineWorld::StartEngine() {
  EngineOptions options;
  options.federation = "cards";
  options.fold_threads = 1;
  options.retention.keep_versions = 0;  // so that retention has work
  EngineDeps deps;
  deps.store = store_.get();
  anchored_.emplace(&clock_);
  deps.clock = &*anchored_;
  deps.wall = &clock_;
  deps.ca = &SharedKeys().ca;
  deps.random = &random_;
  deps.ingest = &ingest_;
  deps.listener = &listener_;
  deps.signing_key = &SharedKeys().signing;
  deps.storage_key = &SharedKeys().storage;
  deps.log = [this](std::string_view level, int64_t round,
                    std::string_view institution, std::string_view text) {
    {
      MutexLock lock(&log_mu_);
      log_.push_back(Cat(level, " ", round, " ", institution, ": ", text));
    }
    bell_.Ring();
  };
  engine_ = std::make_unique<Engine>(options, std::move(deps));
  engine_->Subscribe([this](int64_t) { bell_.Ring(); });
  return engine_->StartForTest();
}

absl::Status EngineWorld::Boot() {
  Down();
  CONSILIUM_RETURN_IF_ERROR(OpenStore(/*create=*/false));
  if (!stopped_cleanly_) CONSILIUM_RETURN_IF_ERROR(RecoverAndCheck());
  stopped_cleanly_ = true;
  return StartEngine();
}

// The engine recovers again; here nothing else runs yet.
absl::Status EngineWorld::RecoverAndCheck() {
  CONSILIUM_ASSIGN_OR_RETURN(const RecoveryReport report,
                             store_->Recover(clock_.Now()));
  for (const ContributionRow& row : report.lost) {
    ADD_FAILURE() << "contribution " << row.id << " lost its spool";
  }
  ExpectClean();
  return absl::OkStatus();
}

void EngineWorld::Down() {
  if (engine_ != nullptr) engine_->Stop();
  ingest_.RunAll();
  engine_.reset();
  store_.reset();
  if (fs_.crashed()) stopped_cleanly_ = false;
}

Caller EngineWorld::CallerFor(const std::string& institution) {
  return {engine_->peers().Find(institution), "01"};
}

void EngineWorld::ExpectClean() {
  const auto report = CheckStore(*store_, {.deep = true});
  if (fs_.crashed()) return;
  ASSERT_THAT(report, IsOk());
  for (const CheckProblem& problem : report->problems) {
    ADD_FAILURE() << problem.kind << " " << problem.object << ": "
                  << problem.detail;
  }
}

std::vector<std::string> EngineWorld::Log() {
  MutexLock lock(&log_mu_);
  return log_;
}

std::string EngineWorld::LastError() {
  MutexLock lock(&log_mu_);
  for (auto it = log_.rbegin(); it != log_.rend(); ++it) {
    if (it->starts_with("error") || it->starts_with("warn")) return *it;
  }
  return "nothing was logged";
}

}  // namespace consilium
