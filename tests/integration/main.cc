// One TLS policy for the whole process, as in the programs.

#include <gtest/gtest.h>

#include "consilium/secure/tls13.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!consilium::ConfigureTls13Only().ok()) return 1;
  return RUN_ALL_TESTS();
}
