// Whether somebody listens where a node wants to.
#pragma once

#include <string_view>

namespace hivemetal::node {

// False only if the port of a `/ip4/…/tcp/…` address is taken. What cannot be judged here (other protocols,
// port 0) counts as free: p2pd will say.
bool port_is_free(std::string_view address);

}  // namespace hivemetal::node
