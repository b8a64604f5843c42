// Enough of XML for pictures: tags nest and close, attributes are quoted, & and < stand for nothing else.
#pragma once
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

// "": it is well-formed.
inline std::string what_is_wrong_in_xml(std::string_view xml) {
  std::vector<std::string> open;
  size_t i = 0;
  const auto name = [&] {
    std::string found;
    while (i < xml.size() && (std::isalnum(static_cast<unsigned char>(xml[i])) || xml[i] == '-')) found += xml[i++];
    return found;
  };
  while (i < xml.size()) {
    const char c = xml[i++];
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return "a control character";
    if (c == '&') {
      if (xml.substr(i, 3) != "lt;" && xml.substr(i, 4) != "amp;") return "a bare &";
      continue;
    }
    if (c != '<') continue;
    if (xml[i] == '/') {
      ++i;
      const std::string closed = name();
      if (open.empty() || open.back() != closed || xml[i++] != '>') return "</" + closed + ">";
      open.pop_back();
      continue;
    }
    open.push_back(name());
    while (i < xml.size() && xml[i] != '>' && xml[i] != '/') {
      while (i < xml.size() && std::isspace(static_cast<unsigned char>(xml[i]))) ++i;
      if (xml[i] == '>' || xml[i] == '/') break;
      if (name().empty() || xml.substr(i, 2) != "=\"") return "an attribute of <" + open.back() + ">";
      i = xml.find_first_of("\"<&", i + 2);
      if (i == std::string_view::npos || xml[i] != '"') return "a value in <" + open.back() + ">";
      ++i;
    }
    if (xml[i] == '/') {
      open.pop_back();
      ++i;
    }
    if (xml[i++] != '>') return "the end of a tag";
  }
  return open.empty() ? "" : "<" + open.back() + "> is open";
}

}  // namespace troupe
