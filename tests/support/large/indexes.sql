
DO $$ DECLARE index text; BEGIN
    FOR index IN SELECT definition FROM indexes LOOP EXECUTE index; END LOOP;
END $$;
