SET default_tablespace = fast;
