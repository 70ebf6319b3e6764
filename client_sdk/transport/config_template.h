#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_CONFIG_TEMPLATE_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_CONFIG_TEMPLATE_H_

#include <string>
#include <string_view>

#include "consilium/secure/identity.h"

namespace consilium::client::internal {

// The text of consilium-client.toml for a new institution: what it must have,
// and every other key in a comment with its default. client_sdk/app/config.h
// reads it.
std::string ClientConfigText(std::string_view federation,
                             std::string_view institution,
                             std::string_view service_address);
// Of config.toml for an operator or auditor, as
// coordinator/cli/operator_config.h reads it.
std::string StaffConfigText(const PeerName& name,
                            std::string_view service_address);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_CONFIG_TEMPLATE_H_
