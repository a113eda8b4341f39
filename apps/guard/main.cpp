// hivemetal-guard: started by the node for each attempt, never by hand.
#include <cstdio>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>

#include "runner/guard/guard.h"

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    std::puts("hivemetal-guard 0.1.0");
    return 0;
  }
  if (argc != 2 || argv[1][0] == '-' || ::fcntl(3, F_GETFD) < 0) {
    std::fputs(
        "usage: hivemetal-guard ATTEMPT\nStarted by `hivemetal node run`, with the attempt's description on "
        "fd 3.\n",
        stderr);
    return 2;
  }
  ::close_range(4, ~0U, 0);
  return hivemetal::runner::run_guard(3);
}
