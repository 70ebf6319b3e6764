#include "coordinator/engine/spool_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "consilium/aggregation/codec.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/store/spool_format.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_upload.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr char kBank[] = "bank-a";

// Two whole frames and a short one; element e has the value e. Sealed or not,
// in frames of the largest and the smallest size.
class SpoolSourceTest
    : public ::testing::TestWithParam<std::tuple<bool, int64_t>> {
 protected:
  void SetUp() override {
    round_ =
        MakeTestRound(Cat("consilium-layout 1\nshared F32 ", elements_, " a\n"),
                      std::get<0>(GetParam()), int64_t{64} << 20, frame_);
    std::vector<float> values(static_cast<size_t>(elements_));
    std::iota(values.begin(), values.end(), 0.0f);
    upload_ = MakeTestUpload(*round_, kBank, "\x01", 1, 100, values);
    SpoolHeader header;
    header.sealed = upload_.manifest.sealed;
    header.total_chunks = upload_.chunks.size();
    header.payload_bytes =
        static_cast<uint64_t>(upload_.manifest.payload_bytes);
    header.max_record_bytes = kMaxSealedChunkBytes;
    header.elements_per_frame = static_cast<uint64_t>(frame_);
    header.manifest = upload_.manifest.Encode();
    header.wrapped_key = upload_.manifest.ephemeral_public +
                         upload_.manifest.wrapped_content_key;
    ASSERT_OK(spools_.Prepare());
    ASSERT_OK_AND_ASSIGN(
        const std::unique_ptr<SpoolWriter> writer,
        spools_.Create({7, 2, kBank, upload_.manifest.IdHex()}, header,
                       [](absl::StatusOr<uint64_t>) {}));
    path_ = writer->path();
    for (size_t i = 0; i < upload_.chunks.size(); ++i) {
      ASSERT_OK(writer->Append(i, upload_.chunks[i]));
    }
    ASSERT_OK(writer->Flush());
  }

  std::unique_ptr<SpoolSource> Open() {
    auto source = SpoolSource::Create(round_, kBank, spools_, path_);
    EXPECT_OK(source.status());
    return *std::move(source);
  }

  // Flips a bit of byte `at` of chunk `index` on disk.
  void Damage(size_t index, size_t at) {
    const std::string path = JoinPath(dir_.path(), path_);
    ASSERT_OK_AND_ASSIGN(
        const std::unique_ptr<File> file,
        PosixFileSystem()->Open(path, {.read = true, .write = true}));
    ASSERT_OK_AND_ASSIGN(const int64_t size, file->Size());
    auto offset = size;
    for (size_t i = upload_.chunks.size(); i > index; --i) {
      offset -=
          static_cast<int64_t>(kSpoolRecordHead + upload_.chunks[i - 1].size());
    }
    offset += static_cast<int64_t>(kSpoolRecordHead + at);
    std::byte value{};
    ASSERT_OK(ReadExactlyAt(file.get(), offset, std::span(&value, 1)));
    value ^= std::byte{4};
    ASSERT_OK(file->WriteAt(offset, std::span(&value, 1)));
  }

  const int64_t frame_ = std::get<1>(GetParam());
  const int64_t elements_ = 2 * frame_ + 5;
  TempDir dir_;
  SpoolDir spools_{PosixFileSystem(), dir_.path(), nullptr};
  std::shared_ptr<const RoundContext> round_;
  TestUpload upload_;
  std::string path_;
};

INSTANTIATE_TEST_SUITE_P(
    Spools, SpoolSourceTest,
    ::testing::Combine(::testing::Bool(),
                       ::testing::Values(kFrameSizes.front(),
                                         kFrameSizes.back())),
    [](const auto& param_info) {
      return Cat(std::get<0>(param_info.param) ? "Sealed" : "Plain",
                 std::get<1>(param_info.param));
    });

TEST_P(SpoolSourceTest, ACursorReadsFromAnywhereToTheEnd) {
  const auto source = Open();
  for (const int64_t first :
       {int64_t{0}, int64_t{1}, int64_t{16375}, int64_t{16376}, int64_t{16377},
        frame_ - 1, frame_, frame_ + frame_ / 6, 2 * frame_, elements_ - 1}) {
    for (const size_t most : {size_t{1} << 20, size_t{1000}}) {
      ASSERT_OK_AND_ASSIGN(const auto cursor, source->Open(first));
      int64_t at = first;
      while (at < elements_) {
        ASSERT_OK_AND_ASSIGN(const std::span<const float> values,
                             cursor->Next(most));
        ASSERT_GE(values.size(), 1u);
        ASSERT_LE(values.size(), most);
        for (const float value : values) {
          ASSERT_EQ(value, static_cast<float>(at++)) << "from " << first;
        }
      }
      EXPECT_OK(cursor->Finish());
      EXPECT_THAT(cursor->Next(1), StatusIs(absl::StatusCode::kOutOfRange,
                                            HasSubstr("read beyond the")));
    }
  }
}

// A seal or checksum covers a whole frame: what was handed out before its end
// is refused then.
TEST_P(SpoolSourceTest, DamageShowsAtTheEndOfItsFrameAtTheLatest) {
  const size_t size = upload_.chunks[1].size();
  for (const size_t at : {size_t{40}, size / 2, size - 20, size - 1}) {
    Damage(1, at);
    const auto source = Open();
    // Asked about the damaged frame: after an element, after all of it.
    for (const int64_t count : {int64_t{1}, frame_ / 12, frame_}) {
      ASSERT_OK_AND_ASSIGN(const auto cursor, source->Open(0));
      absl::Status status;
      for (int64_t got = 0; status.ok() && got < count;) {
        const auto values = cursor->Next(static_cast<size_t>(count - got));
        status = values.status();
        if (status.ok()) got += static_cast<int64_t>(values->size());
      }
      if (status.ok()) status = cursor->Finish();
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                   HasSubstr("chunk 1 of")))
          << "byte " << at << " after " << count;
    }
    // Others are not concerned.
    ASSERT_OK_AND_ASSIGN(const auto cursor, source->Open(frame_));
    EXPECT_OK(cursor->Next(10).status());
    EXPECT_OK(cursor->Finish());
    EXPECT_THAT(source->Verify().status(),
                StatusIs(absl::StatusCode::kDataLoss));
    Damage(1, at);  // back as it was
  }
  EXPECT_OK(Open()->Verify().status());
}

TEST_P(SpoolSourceTest, AFrameOfAnotherPlaceIsRefused) {
  // The first element, as the header gives it; a seal finds that too.
  Damage(2, 8);
  const auto source = Open();
  ASSERT_OK_AND_ASSIGN(const auto cursor, source->Open(frame_));
  EXPECT_THAT(cursor->Next(1), StatusIs(absl::StatusCode::kDataLoss,
                                        HasSubstr("other elements")));
}

}  // namespace
}  // namespace consilium
