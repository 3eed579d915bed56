// Fetches http://NAME/ from several hosts at once by Boost.Asio, on one thread: asio NAME... As fetch.c otherwise.

#include <boost/asio.hpp>
#include <fstream>
#include <iostream>
#include <list>

namespace asio = boost::asio;
using asio::ip::tcp;

struct transfer {
    transfer(asio::io_context &context, std::string host) : name(std::move(host)), resolver(context), socket(context) {}

    void begin()
    {
        resolver.async_resolve(name, "80", [this](auto error, auto found) {
            if (error)
                return say(error);
            asio::async_connect(socket, found, [this](auto error, const auto &) { error ? say(error) : ask(); });
        });
    }

private:
    void ask()
    {
        request = "GET / HTTP/1.0\r\nHost: " + name + "\r\n\r\n";
        asio::async_write(socket, asio::buffer(request), [this](auto error, auto) { error ? say(error) : receive(); });
    }

    void receive()
    {
        asio::async_read(socket, asio::dynamic_buffer(answer), [this](auto error, auto) {
            if (error != asio::error::eof)
                return say(error);
            std::ofstream(name, std::ios::binary) << answer.substr(answer.find("\r\n\r\n") + 4);
        });
    }

    void say(boost::system::error_code error) { std::cout << name << ": " << error.message() << '\n'; }

    std::string name, request, answer;
    tcp::resolver resolver;
    tcp::socket socket;
};

int main(int argc, char **argv)
{
    asio::io_context context;
    std::list<transfer> transfers;
    for (int i = 1; i < argc; i++)
        transfers.emplace_back(context, argv[i]).begin();
    context.run();
}
