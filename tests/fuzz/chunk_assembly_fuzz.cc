// Whatever order and state the chunks of an upload arrive in, through broken
// connections, killed processes, lost power and full disks: every chunk that is
// not the next one as its sender made it gets a typed answer, an honest sender
// can always finish, and what was assembled is then, bit for bit, what was
// sent. An upload that took altered bytes never ends well.
//
// Input: [groups][sealed] and operations [what][chunk][...], see Step().

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/secure/sha256.h"
#include "coordinator/engine/upload_session.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/test_upload.h"

namespace {

using consilium::FuzzInput;
using consilium::RefusalCode;
using consilium::Require;
using consilium::RoundContext;
using consilium::TestUpload;
using consilium::UploadSession;

using Bytes = std::vector<std::byte>;

constexpr char kInstitution[] = "bank-a";

const std::shared_ptr<const RoundContext>& Round(bool sealed) {
  static const auto* const on =
      new auto(consilium::MakeTestRound(consilium::kTestUploadLayout, true));
  static const auto* const off =
      new auto(consilium::MakeTestRound(consilium::kTestUploadLayout, false));
  return sealed ? *on : *off;
}

// Making one costs more than a run.
const TestUpload& Upload(bool sealed, char groups, uint8_t id) {
  static auto* const made = new std::map<std::array<int, 3>, TestUpload>();
  auto [it, fresh] = made->try_emplace({sealed, groups, id});
  if (fresh) {
    it->second = consilium::MakeTestUpload(*Round(sealed), kInstitution,
                                           {&groups, 1}, id);
  }
  return it->second;
}

class Assembly {
 public:
  Assembly(bool sealed, char groups)
      : sent_(Upload(sealed, groups, 1)),
        other_(Upload(sealed, groups, 2)),
        round_(Round(sealed)),
        peer_(std::make_shared<consilium::PeerState>()),
        spools_(&fs_, "/d", nullptr) {
    peer_->name = kInstitution;
    Require(spools_.Prepare().ok());
    auto created =
        UploadSession::Create(round_, peer_, sent_.manifest, {}, spools_);
    Require(created.ok());
    session_ = *std::move(created);
    path_ = session_->spool_path();
  }

  // False when the upload has ended.
  bool Step(FuzzInput& input) {
    const uint8_t what = input.Byte();
    const size_t index = input.Byte() % (chunks() + 1);
    switch (what % 12) {
      case 0:  // as it was sent, in any order
        return Send(index, index < chunks() ? sent_.chunks[index] : Bytes(40));
      case 1:  // the next one, so that many inputs get far
      case 2:
        return next_ == chunks() || Send(next_, sent_.chunks[next_]);
      case 3:  // the bytes of one under the number of another
        return Send(index, sent_.chunks[input.Byte() % chunks()]);
      case 4:  // of the same institution's other upload
        return Send(index, other_.chunks[index % chunks()]);
      case 5: {
        Bytes cut = sent_.chunks[index % chunks()];
        cut.resize(input.Word(3) % (cut.size() + 1));
        return Send(index, cut);
      }
      case 6: {
        Bytes longer = sent_.chunks[index % chunks()];
        longer.resize(longer.size() + 1 + input.Byte());
        return Send(index, longer);
      }
      case 7: {
        Bytes flipped = sent_.chunks[index % chunks()];
        flipped[input.Word(3) % flipped.size()] ^=
            static_cast<std::byte>(1 << (input.Byte() % 8));
        return Send(index, flipped);
      }
      case 8:  // raw bytes
        return Send(index, RawBytes(input));
      case 9:
        return Restart(input);
      case 10:
        return FullDisk(input);
      default:
        RequireUnfinished();
        return true;
    }
  }

  // The sender goes on where the coordinator says, and commits.
  void Finish() {
    while (next_ < chunks()) Require(Send(next_, sent_.chunks[next_]));
    const auto result = session_->Finish();
    Require(result.ok());
    Require(result->payload_digest == sent_.manifest.payload_digest);
    Require(result->stats.payload_bytes == sent_.manifest.payload_bytes);
    Require(result->stats.metadata.examples == 100);
    session_ = nullptr;
    fs_.CrashKeepingNothingUnsynced();

    const auto reader = spools_.OpenReader(path_);
    Require(reader.ok() && (*reader)->complete());
    Bytes body((*reader)->header().max_record_bytes);
    for (size_t i = 0; i < chunks(); ++i) {
      const auto record = (*reader)->ReadRecord(i, body);
      Require(record.ok());
      Require(std::ranges::equal(std::span(body).first(record->bytes),
                                 sent_.chunks[i]));
    }
  }

 private:
  size_t chunks() const { return sent_.chunks.size(); }

  static Bytes RawBytes(FuzzInput& input) {
    const auto raw = consilium::AsBytes(input.Text(input.Byte()));
    return {raw.begin(), raw.end()};
  }

  bool Send(size_t index, const Bytes& data) {
    const auto answer = session_->Append(index, data);
    if (index < next_) {  // a repetition, whatever it holds
      Require(answer.ok() && !answer->has_value());
      return true;
    }
    if (index > next_ || index >= chunks()) {
      Require(absl::IsInvalidArgument(answer.status()));
      return true;
    }
    if (data == sent_.chunks[index]) {
      Require(answer.ok() && !answer->has_value());
      ++next_;
      return true;
    }
    if (!answer.ok()) {
      Require(absl::IsInvalidArgument(answer.status()));
      return true;
    }
    Require(answer->has_value() && !(*answer)->message.empty());
    if ((*answer)->code == RefusalCode::kAuthentication) return true;
    // A whole frame, but not the one that is due: only without seals.
    Require((*answer)->code == RefusalCode::kQuarantined);
    Require(!sent_.manifest.sealed);
    Require(!session_->Finish().ok());
    Require(Reopen());
    Require(!session_->Finish().ok());
    return false;
  }

  void RequireUnfinished() {
    if (next_ == chunks()) return;
    Require(absl::IsFailedPrecondition(session_->Finish().status()));
  }

  bool Reopen() {
    session_ = nullptr;
    auto resumed =
        ResumeTestUpload(round_, peer_, sent_.manifest, spools_, path_);
    if (resumed.ok()) session_ = *std::move(resumed);
    return resumed.ok();
  }

  bool Restart(FuzzInput& input) {
    session_ = nullptr;
    const uint8_t how = input.Byte();
    size_t least = next_;
    if (how % 2 == 0) {
      fs_.KillProcess();
    } else {
      fs_.Crash(input.Word(2));
      least = durable_;
    }
    Require(Reopen());
    const uint64_t kept = session_->durable_chunks();
    Require(kept >= least && kept <= next_);
    next_ = durable_ = kept;  // resuming syncs what it keeps
    return true;
  }

  // The next chunk meets a full disk, if it is longer than what is left.
  bool FullDisk(FuzzInput& input) {
    if (next_ == chunks()) return true;
    fs_.FailWithNoSpaceAfter(input.Word(3));
    const auto answer = session_->Append(next_, sent_.chunks[next_]);
    fs_.FailWithNoSpaceAfter(-1);
    Require(answer.ok());
    if (answer->has_value()) {
      Require((*answer)->code == RefusalCode::kNoSpace);
    } else {
      ++next_;
    }
    return true;
  }

  const TestUpload& sent_;
  const TestUpload& other_;
  const std::shared_ptr<const RoundContext> round_;
  const std::shared_ptr<consilium::PeerState> peer_;
  consilium::FaultFileSystem fs_;
  consilium::SpoolDir spools_;
  std::shared_ptr<UploadSession> session_;
  std::string path_;
  uint64_t next_ = 0;     // chunks that were taken
  uint64_t durable_ = 0;  // of these, what a loss of power leaves for certain
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  // Big groups cost a megabyte each: one input in four has them.
  const uint8_t choice = input.Byte();
  const char small = static_cast<char>(4 * (1 + choice % 3));
  const char big = static_cast<char>((choice >> 4) % 4);
  const char groups = choice % 4 == 0 ? static_cast<char>(small | big) : small;
  Assembly assembly((choice & 0x40) == 0, groups);
  for (int steps = 0; steps < 24 && !input.empty(); ++steps) {
    if (!assembly.Step(input)) return 0;
  }
  assembly.Finish();
  return 0;
}
