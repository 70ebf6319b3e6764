#include "consilium/aggregation/frame_cursor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kFull = kF32ElementsPerFrame;

class FrameCursorTest : public ::testing::Test {
 protected:
  // A payload of `elements` elements 0, 1, 2, ... at byte 100 of a file.
  void Write(int64_t elements) {
    layout_ = *Layout::Parse(
        Cat("consilium-layout 1\nshared F32 ", elements, " a\n"));
    space_ = std::make_unique<CoveredSpace>(&layout_, Coverage::All(layout_));
    file_ = *fs_.Open(Cat("/", elements), {.write = true, .create = true});
    int64_t at = 100;
    PayloadWriter writer(elements, codec_,
                         [&](std::span<const std::byte> frame) {
                           const int64_t to = at;
                           at += std::ssize(frame);
                           if (to == 100) parameters_ = at;
                           return file_->WriteAt(to, frame);
                         });
    std::vector<float> values(static_cast<size_t>(elements));
    std::iota(values.begin(), values.end(), 0.0f);
    ASSERT_OK(writer.WriteMetadata({.examples = 1}));
    ASSERT_OK(writer.Append(values));
    ASSERT_OK(writer.Finish());
    source_ = std::make_unique<PlainPayloadSource>("bank", space_.get(), codec_,
                                                   file_.get(), parameters_);
  }

  const Codec* const codec_ = FindCodec(CodecId::kF32);
  FaultFileSystem fs_;
  Layout layout_;
  std::unique_ptr<CoveredSpace> space_;
  std::unique_ptr<File> file_;
  int64_t parameters_ = 0;
  std::unique_ptr<PlainPayloadSource> source_;
};

TEST_F(FrameCursorTest, ReadsFromAnywhereToTheEnd) {
  for (const int64_t elements :
       {int64_t{1}, kFull - 1, kFull, kFull + 1, 2 * kFull + 5}) {
    Write(elements);
    for (const int64_t first :
         {int64_t{0}, elements / 2, kFull - 1, kFull, elements - 1}) {
      if (first >= elements) continue;
      ASSERT_OK_AND_ASSIGN(const auto cursor, source_->Open(first));
      int64_t at = first;
      while (at < elements) {
        const size_t max = at % 3 == 0 ? 100'000 : 7'000'000;
        ASSERT_OK_AND_ASSIGN(const auto values, cursor->Next(max));
        ASSERT_GE(values.size(), 1u);
        ASSERT_LE(values.size(), max);
        ASSERT_EQ(values.front(), static_cast<float>(at));
        at += std::ssize(values);
        ASSERT_EQ(values.back(), static_cast<float>(at - 1));
      }
      EXPECT_THAT(cursor->Next(1), StatusIs(absl::StatusCode::kOutOfRange));
    }
  }
}

// A body aligned to a cache line is what the kernels like best.
TEST_F(FrameCursorTest, PutsTheBodyOnACacheLine) {
  Write(10);
  ASSERT_OK_AND_ASSIGN(const auto cursor, source_->Open(0));
  ASSERT_OK_AND_ASSIGN(const auto values, cursor->Next(10));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(values.data()) % 64, 0u);
}

TEST_F(FrameCursorTest, NoticesDamageAndMissingBytes) {
  Write(kFull + 10);
  ASSERT_OK(fs_.Corrupt(file_->path(), parameters_ + 40));
  ASSERT_OK_AND_ASSIGN(const auto first, source_->Open(0));
  EXPECT_THAT(first->Next(1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  ASSERT_OK_AND_ASSIGN(const auto second, source_->Open(kFull));
  EXPECT_OK(second->Next(1));
  ASSERT_OK(file_->Truncate(*file_->Size() - 1));
  ASSERT_OK_AND_ASSIGN(const auto third, source_->Open(kFull));
  EXPECT_THAT(third->Next(1), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(FrameCursorTest, RefusesAFrameOfAnotherPlace) {
  const std::vector<float> values(10);
  std::vector<std::byte> frame(codec_->MaxFrameBytes(10));
  int64_t place = 0;
  const auto load = [&](int64_t index, std::span<std::byte> buffer)
      -> absl::StatusOr<std::span<const std::byte>> {
    EXPECT_EQ(index, 1);
    EXPECT_EQ(buffer.size(), size_t{1} << 20);
    codec_->Encode(values, place, frame);
    return frame;
  };
  FrameCursor good(codec_, 10, 3, CrcCheck::kVerify, load);
  ASSERT_OK_AND_ASSIGN(const auto rest, good.Next(100));
  EXPECT_EQ(rest.size(), 7u);
  place = 10;
  FrameCursor shifted(codec_, 10, 3, CrcCheck::kSkip, load);
  EXPECT_THAT(shifted.Next(1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("frame 1")));
  place = 0;
  FrameCursor shorter(codec_, 9, 3, CrcCheck::kSkip, load);
  EXPECT_THAT(shorter.Next(1), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace consilium
