#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "consilium/secure/tls13.h"

int main(int argc, char** argv) {
  // As every program of this project does, before gRPC wakes up.
  if (const absl::Status status = consilium::ConfigureTls13Only();
      !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
