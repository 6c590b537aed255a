-- raises: require-concurrent-index-creation
CREATE UNIQUE INDEX "Odd Name" ON "cm"."account" (lower(email)) WHERE state = 'open';
