#include "node/ports.h"

#include <charconv>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/asio.h"

namespace hivemetal::node {

bool port_is_free(std::string_view address) {
  const auto tcp = address.find("/tcp/");
  if (!address.starts_with("/ip4/") || tcp == std::string_view::npos) return true;
  const auto digits = address.substr(tcp + 5);
  std::uint16_t port = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), port);
  boost::system::error_code error;
  const auto ip = asio::ip::make_address_v4(std::string(address.substr(5, tcp - 5)), error);
  if (error || port == 0) return true;
  asio::io_context loop;
  asio::ip::tcp::acceptor acceptor(loop);
  acceptor.open(asio::ip::tcp::v4(), error);
  acceptor.set_option(asio::socket_base::reuse_address(true), error);
  acceptor.bind({ip, port}, error);
  return error != asio::error::address_in_use;
}

}  // namespace hivemetal::node
