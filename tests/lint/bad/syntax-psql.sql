-- raises: syntax
\connect other
