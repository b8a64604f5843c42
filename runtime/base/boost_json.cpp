// The one place that compiles Boost.JSON's definitions; whoever parses includes <boost/json.hpp> only.
#include <boost/json/src.hpp>
