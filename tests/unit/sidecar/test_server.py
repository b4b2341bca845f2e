from __future__ import annotations

import h11


def test_h11_counts_what_is_left_of_a_body_where_the_server_looks_for_it() -> None:
    # Uploads go past h11, which must be told. Were this elsewhere they would still work, at a fraction of the speed.
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
    assert isinstance(connection.next_event(), h11.Request)
    reader = vars(connection)["_reader"]
    assert type(reader).__name__ == "ContentLengthReader"
    assert reader._remaining == 10
    assert isinstance(connection.next_event(), h11.Data)
    assert reader._remaining == 7
    assert connection.trailing_data == (b"", False)
